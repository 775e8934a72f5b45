/** Runs an app as several processes on one port, which answer for each other: one set of metrics, one health. */
import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import { keepRunning } from './keep-running.ts'

type Topic = 'metrics' | 'ready'
type Message =
  | { readonly bifold: 'ask' | 'question', readonly topic: Topic, readonly id: number }
  | { readonly bifold: 'answer', readonly id: number, readonly answer: unknown }
  | { readonly bifold: 'answers', readonly id: number, readonly answers: readonly unknown[], readonly missing: number }
  | { readonly bifold: 'close' }

/** What the workers of an app have answered, and how many have not: they are being started, or hang. */
export interface Answers<T> { readonly answers: readonly T[], readonly missing: number }

export interface Peers {
  /** Asks all workers, this one too. */
  ask<T> (topic: Topic): Promise<Answers<T>>
  /** What this worker answers. */
  answer (topic: Topic, make: () => Promise<unknown>): void
  /** Calls the listener when the primary wants this worker to close, or is gone. */
  onClose (listener: () => void): void
}

const answerMs = 3000 // a worker whose health takes longer than a check may counts as missing
const stopMs = 20_000 // a worker closes itself within 15 s; then it is killed

/** In the primary: keeps `count` workers running until it is told to stop. */
export function supervise (count: number, log: FastifyBaseLogger): { stop (): Promise<void> } {
  cluster.setupPrimary({ serialization: 'advanced' }) // NaN, which says that nobody knows, would not survive JSON
  const stopping = new AbortController()
  cluster.on('message', (worker, message: Message) => { if (message.bifold === 'ask') void askAll(worker, message.topic, message.id, count) })
  const running = Array.from({ length: count }, async () => await keepRunning(async () => {
    const worker = cluster.fork()
    const stop = () => close(worker)
    stopping.signal.addEventListener('abort', stop)
    const [code, signal] = await once(worker, 'exit')
    stopping.signal.removeEventListener('abort', stop)
    if (!stopping.signal.aborted) log.error({ pid: worker.process.pid, code, signal }, 'a worker ended and is started again')
  }, stopping.signal))
  return {
    async stop () {
      stopping.abort()
      await Promise.all(running)
    }
  }
}

function close (worker: Worker) {
  if (!worker.isConnected()) return
  worker.send({ bifold: 'close' } satisfies Message)
  void setTimeout(stopMs, undefined, { ref: false }).then(() => worker.process.kill('SIGKILL'))
}

async function askAll (asker: Worker, topic: Topic, id: number, count: number) {
  const found = await Promise.all(Object.values(cluster.workers ?? {}).map(async worker => await askOne(worker!, topic)))
  const answers = found.flatMap(answer => answer === undefined ? [] : [answer.answer])
  if (asker.isConnected()) asker.send({ bifold: 'answers', id, answers, missing: count - answers.length } satisfies Message)
}

let questions = 0

async function askOne (worker: Worker, topic: Topic): Promise<{ answer: unknown } | undefined> {
  if (!worker.isConnected()) return undefined
  const id = questions++
  const done = new AbortController()
  const answered = Promise.withResolvers<{ answer: unknown } | undefined>()
  const listen = (message: Message) => { if (message.bifold === 'answer' && message.id === id) answered.resolve(message) }
  worker.on('message', listen)
  worker.send({ bifold: 'question', topic, id } satisfies Message)
  try {
    return await Promise.race([answered.promise, setTimeout(answerMs, undefined, { signal: done.signal }).catch(() => undefined)])
  } finally {
    done.abort()
    worker.off('message', listen)
  }
}

/** In a worker: its way to the others; undefined in a process that is alone. */
export function makePeers (): Peers | undefined {
  const { worker } = cluster
  if (worker === undefined) return undefined
  // When the primary is gone, Node would end the worker at once, with what it has accepted unanswered.
  worker.exitedAfterDisconnect = true
  const makers = new Map<Topic, () => Promise<unknown>>()
  const open = new Map<number, (answers: Answers<never>) => void>()
  let [asked, listener] = [0, () => {}]
  worker.on('message', (message: Message) => {
    switch (message.bifold) {
      case 'question': return tell(message.id, makers.get(message.topic))
      case 'answers': return open.get(message.id)?.(message as never)
      case 'close': return listener()
    }
  })
  const tell = (id: number, make: (() => Promise<unknown>) | undefined) => {
    make?.().then(answer => worker.send({ bifold: 'answer', id, answer } satisfies Message)).catch(() => {}) // counts as missing
  }
  worker.on('disconnect', () => listener())
  return {
    async ask (topic) {
      const id = asked++
      const { promise, resolve } = Promise.withResolvers<Answers<never>>()
      open.set(id, resolve)
      worker.send({ bifold: 'ask', topic, id } satisfies Message)
      return await promise.finally(() => open.delete(id))
    },
    answer: (topic, make) => { makers.set(topic, make) },
    onClose (told) { listener = told }
  }
}
