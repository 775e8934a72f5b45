/** docs/alerts.yml against what the running apps serve at /metrics, and against the rows of docs/operations.md. */
import { existsSync, readFileSync } from 'node:fs'
import type { Test } from 'tap'
import { parse } from 'yaml'
import { platformErrors } from '@bifold/cqrs'
import type { Pipeline } from './pipeline.ts'

interface Rule { readonly alert: string, readonly expr: string, readonly annotations: { readonly summary: string, readonly runbook: string } }

/** Of each metric the labels, and of each label the values that were seen. */
type Served = Map<string, Map<string, Set<string>>>

const functions = ['increase', 'max', 'min', 'rate', 'sum', 'time']
const operators = ['and', 'or', 'unless', 'offset']

const labelsIn = (text = ''): (readonly [label: string, value: string])[] => [...text.matchAll(/(\w+)="([^"]*)"/g)].map(([, label, value]) => [label!, value!])

/** Whatever a PromQL expression names, but for the labels that it groups by: those may be Prometheus's own. */
function namesIn (expr: string) {
  const matched: [metric: string, label: string, value: string][] = []
  const bare = expr.replaceAll(/(\w+)\{([^}]*)\}/g, (_, metric: string, labels: string) => {
    for (const [label, value] of labelsIn(labels)) matched.push([metric, label, value])
    return metric
  }).replaceAll(/\b(by|without) *\([\w, ]*\)/g, '')
  const names = [...bare.matchAll(/\b[a-z_]\w*/gi)].map(([name]) => name)
  return { matched, metrics: names.filter(name => ![...functions, ...operators].includes(name)) }
}

/** Each rule's faults; none if all that it names is served. */
export function faultsOf ({ alert, expr }: Pick<Rule, 'alert' | 'expr'>, served: Served): string[] {
  const { matched, metrics } = namesIn(expr)
  return [
    ...metrics.length === 0 ? [`${alert}: no metric`] : [],
    ...metrics.filter(metric => !served.has(metric)).map(metric => `${alert}: nobody serves ${metric}`),
    ...matched.filter(([metric, label, value]) => !served.get(metric)?.get(label)?.has(value)).map(([metric, label, value]) => `${alert}: ${metric} has no ${label} "${value}"`)
  ]
}

async function servedBy ({ apps }: Pipeline): Promise<Served> {
  const served: Served = new Map()
  for (const { url } of Object.values(apps)) {
    for (const [, metric, text] of (await (await fetch(`${url}/metrics`)).text()).matchAll(/^(\w+)(?:\{(.*)\})? \S+$/gm)) {
      const labels = served.get(metric!) ?? new Map<string, Set<string>>()
      served.set(metric!, labels)
      for (const [label, value] of labelsIn(text)) labels.set(label, (labels.get(label) ?? new Set()).add(value))
    }
  }
  return served
}

/** What the first two columns of "What to watch" say: a metric, with its labels if it has any, and when to alarm. */
function rowsOf (page: string): { metric: string, when: string }[] {
  const [, table] = /^## What to watch$([^]*?)^## /m.exec(page)!
  return [...table!.matchAll(/^\| (`[^|]*`) \| ([^|]*) \|/gm)].flatMap(([, names, when]) => [...names!.matchAll(/`([^`]+)`/g)].map(([, metric]) => ({ metric: metric!, when: when! })))
}

/** For a pipeline in which a command was accepted, and one was refused with `refused`. */
export async function checkAlerts (t: Test, line: Pipeline, refused: string) {
  const rules = (parse(readFileSync('docs/alerts.yml', 'utf8')).groups as { rules: Rule[] }[]).flatMap(({ rules }) => rules)
  const served = await servedBy(line)
  // A counter has what became of a command once it did: the code of its error. Overload and outages are not made here.
  const outcomes = served.get('bifold_commands_total')!.get('outcome')!
  t.ok(outcomes.has(refused), 'the outcome of a command is the code of its error')
  for (const { code } of platformErrors) outcomes.add(code)
  served.get('nodejs_gc_duration_seconds_sum')!.get('kind')!.add('major') // prom-client's name for what a young process has not had yet
  t.same(rules.flatMap(rule => faultsOf(rule, served)), [], 'all that the rules name is served')
  t.same(faultsOf({ alert: 'Misspelt', expr: 'sum without (command) (bifold_commands_total{outcome="OVERLODED", verb="x"} unless bifold_comands_total offset 5m) > 0' }, served), [
    'Misspelt: nobody serves bifold_comands_total', 'Misspelt: bifold_commands_total has no outcome "OVERLODED"', 'Misspelt: bifold_commands_total has no verb "x"'
  ], 'what is misspelt is found')

  const page = readFileSync('docs/operations.md', 'utf8')
  const rows = rowsOf(page)
  t.ok(rows.length > 15, `${rows.length} metrics to watch`)
  t.same(rows.flatMap(({ metric }) => faultsOf({ alert: 'operations.md', expr: metric }, served)), [], 'all that operations.md names is served')
  const alarming = rows.filter(({ when }) => when !== 'never by itself').map(({ metric }) => metric)
  const pointed = rules.map(({ alert, expr, annotations: { summary, runbook } }) => {
    const [, path, heading, metric] = /^([\w/.-]+)#([\w-]+) (.+)$/.exec(runbook) ?? []
    t.ok(existsSync(path!) && readFileSync(path!, 'utf8').toLowerCase().includes(`\n## ${heading!.replaceAll('-', ' ')}\n`), `${alert} points to a part of a page`)
    t.ok(summary.endsWith('.'), `${alert} has a summary`)
    t.ok(metric === 'NaN' || expr.includes(metric!), `${alert} asks for the metric of its row`)
    return metric!
  })
  t.ok(page.includes('\nA lag of NaN says'))
  t.same(pointed.filter(metric => metric !== 'NaN').toSorted(), alarming.toSorted(), 'each row that names an alarm has one rule, and no other has')
  t.equal(new Set(rules.map(({ alert }) => alert)).size, rules.length, 'no two rules share a name')
}
