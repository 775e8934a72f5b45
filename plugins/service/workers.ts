/** Runs an app as several processes on the same ports, which answer for each other: one set of metrics, one health. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { FastifyBaseLogger } from 'fastify'
import { Unavailable } from '@bifold/cqrs'
import { keepRunning } from './keep-running.ts'
import { closeAll, handed, type Sockets } from './sharing.ts'

type Topic = 'metrics' | 'ready'
type Message =
  | { readonly bifold: 'ask' | 'question', readonly topic: Topic, readonly id: number }
  | { readonly bifold: 'answer', readonly id: number, readonly answer: unknown }
  | { readonly bifold: 'answers', readonly id: number, readonly answers: Answers<unknown> }
  | { readonly bifold: 'listening' | 'close' | 'refusing' | 'leave' }

/** What the workers of an app have answered, and how many have not: they are being started, or are silent although they run. Of those that have ended, what is kept of their last answers, if anything is. */
export interface Answers<T> { readonly answers: readonly T[], readonly ended: readonly T[], readonly starting: number, readonly silent: number }

/** What the primary keeps when a worker ends: one answer made of its last one, and of what was kept before. */
export type Keep = Partial<Record<Topic, (lasts: readonly never[]) => unknown>>

export interface Peers {
  /** Asks all workers, this one too; rejects when the primary does not answer. */
  ask<T> (topic: Topic): Promise<Answers<T>>
  /** What this worker answers. */
  answer (topic: Topic, make: () => Promise<unknown>): void
  /** Tells that this worker takes requests. */
  listening (): void
  /** Tells that this worker refuses new connections; resolves when all workers do that are to close, so that nobody is sent from one to the other. */
  refusing (): Promise<void>
  /** Calls the listener when the primary wants this worker to close, or is gone. */
  onClose (listener: () => void): void
}

const answerMs: Record<Topic, number> = { ready: 3000, metrics: 8000 } // longer than a check may take; shorter than the 10 s that Prometheus waits
const relayMs = 1000 // the primary's time on top of the workers'
const refusingMs = 1000 // a worker that is that busy is not waited for
const stopMs = 16_000 // a worker closes itself within 15 s; then it is killed

/** In the primary: keeps `count` workers running, which listen on these sockets, until it is told to stop. */
export function supervise (count: number, sockets: Sockets, log: FastifyBaseLogger, keep: Keep = {}): { stop (): Promise<void> } {
  const { env, fds } = handed(sockets)
  const [script, ...args] = process.argv.slice(1)
  let started = 0
  const stopping = new AbortController()
  const round = makeRound(count, keep)
  const refusing = new Set<ChildProcess>()
  const heard = (worker: ChildProcess, message: Message) => {
    if (message.bifold === 'answer') round.answered(message.id, message.answer)
    if (message.bifold === 'listening') round.add(worker)
    if (message.bifold === 'refusing') {
      refusing.add(worker)
      // One that ends by itself leaves the port to the others.
      const leaving = stopping.signal.aborted ? round.all() : [worker]
      if (leaving.every(one => refusing.has(one))) for (const one of leaving) send(one, { bifold: 'leave' })
    }
    if (message.bifold === 'ask') void round.ask(message.topic).then(answers => send(worker, { bifold: 'answers', id: message.id, answers }))
  }
  const running = Array.from({ length: count }, async () => await keepRunning(async () => {
    const worker = fork(script!, args, {
      env: { ...process.env, ...env, BIFOLD_WORKER: String(++started) },
      stdio: ['inherit', 'inherit', 'inherit', ...fds, 'ipc'],
      serialization: 'advanced' // NaN, which says that nobody knows, would not survive JSON
    })
    worker.on('message', (message: Message) => heard(worker, message))
    worker.on('disconnect', () => { // after its last message, which may come later than its exit
      round.remove(worker)
      refusing.delete(worker)
    })
    const stop = () => close(worker, round.includes(worker))
    stopping.signal.addEventListener('abort', stop)
    const [code, signal] = await once(worker, 'exit').catch((error: Error) => [error.message]) // it could not be forked
    stopping.signal.removeEventListener('abort', stop)
    if (!stopping.signal.aborted) log.error({ worker: worker.pid, code, signal }, 'a worker ended and is started again')
  }, stopping.signal))
  return {
    async stop () {
      // First: with the last worker the port is to refuse, and not to let anybody wait whom nobody takes in.
      closeAll(sockets)
      stopping.abort()
      await Promise.all(running)
    }
  }
}

function close (worker: ChildProcess, listens: boolean) {
  // By a message, since Ctrl-C may have signalled the worker already, and a second signal ends it at once. One that is being started has accepted nothing, and does not read messages yet.
  if (listens) send(worker, { bifold: 'close' })
  else worker.kill('SIGTERM')
  setTimeout(() => worker.kill('SIGKILL'), stopMs).unref()
}

/** Asks all workers that take requests, and waits for them together. */
function makeRound (count: number, keep: Keep) {
  const listening = new Map<ChildProcess, Map<Topic, unknown>>() // each with its last answers, of those that something is kept of
  const kept = new Map<Topic, readonly unknown[]>()
  const underWay = new Map<Topic, Promise<Answers<unknown>>>()
  const questions = makeQuestions<{ answer: unknown }>()
  const ask = async (topic: Topic): Promise<Answers<unknown>> => {
    const asked = [...listening]
    const ended = kept.get(topic) ?? [] // now: one that ends from here on is among those that are asked
    const found = await Promise.all(asked.map(async ([worker, lasts]) => {
      const answer = (await questions.ask(worker, answerMs[topic], id => ({ bifold: 'question', topic, id })))?.answer
      if (answer !== undefined && topic in keep) lasts.set(topic, answer)
      return answer
    }))
    const answers = found.filter(answer => answer !== undefined)
    return { answers, ended, starting: count - asked.length, silent: asked.length - answers.length }
  }
  return {
    add (worker: ChildProcess) { listening.set(worker, new Map()) },
    remove (worker: ChildProcess) {
      for (const [topic, last] of listening.get(worker) ?? []) kept.set(topic, [keep[topic]!([...kept.get(topic) ?? [], last] as never[])])
      listening.delete(worker)
      questions.giveUp(worker)
    },
    /** Who asks while the same is being asked is told the same: of answers that overtook each other, the last would not be the largest. */
    async ask (topic: Topic): Promise<Answers<unknown>> {
      if (!underWay.has(topic)) underWay.set(topic, ask(topic).finally(() => underWay.delete(topic)))
      return await underWay.get(topic)!
    },
    answered: (id: number, answer: unknown) => questions.answered(id, { answer }),
    all: () => [...listening.keys()],
    includes: (worker: ChildProcess) => listening.has(worker)
  }
}

/** In a worker: its way to the others. */
export function makePeers (): Peers {
  const primary: Channel = { send: process.send!.bind(process) }
  const makers = new Map<Topic, () => Promise<unknown>>()
  const questions = makeQuestions<Answers<never>>()
  let close = (): void => process.exit() // until it has something to close
  const leave = Promise.withResolvers<void>()
  process.on('message', (message: Message) => {
    switch (message.bifold) {
      case 'question':
        void tell(message.id, makers.get(message.topic))
        break
      case 'answers':
        questions.answered(message.id, message.answers as Answers<never>)
        break
      case 'leave':
        leave.resolve()
        break
      case 'close':
        close()
    }
  })
  process.on('disconnect', () => {
    questions.giveUp(primary)
    close()
  })
  const tell = async (id: number, make: (() => Promise<unknown>) | undefined) => {
    const answer = await make?.().catch(() => undefined) // counts as silent
    send(primary, { bifold: 'answer', id, answer })
  }
  return {
    async ask (topic) {
      const answers = process.connected ? await questions.ask(primary, answerMs[topic] + relayMs, id => ({ bifold: 'ask', topic, id })) : undefined
      if (answers === undefined) throw new Unavailable('The primary process')
      return answers
    },
    listening () { send(primary, { bifold: 'listening' }) },
    async refusing () {
      send(primary, { bifold: 'refusing' })
      const timer = setTimeout(leave.resolve, refusingMs)
      await leave.promise
      clearTimeout(timer)
    },
    answer: (topic, make) => { makers.set(topic, make) },
    onClose (listener) { close = listener }
  }
}

/** Questions under way: each resolves with its answer, or with undefined when there is none in time, or nobody to give it any more. */
function makeQuestions<T> () {
  const open = new Map<number, { to: Channel, resolve (answer: T | undefined): void }>()
  let asked = 0
  return {
    async ask (to: Channel, patienceMs: number, message: (id: number) => Message): Promise<T | undefined> {
      const id = asked++
      const { promise, resolve } = Promise.withResolvers<T | undefined>()
      open.set(id, { to, resolve })
      const timer = setTimeout(resolve, patienceMs, undefined)
      send(to, message(id))
      return await promise.finally(() => {
        clearTimeout(timer)
        open.delete(id)
      })
    },
    answered (id: number, answer: T) { open.get(id)?.resolve(answer) },
    giveUp (gone: Channel) { for (const { to, resolve } of open.values()) if (to === gone) resolve(undefined) }
  }
}

/** A worker for the primary, and the primary for a worker. */
interface Channel { send (message: Message, told: () => void): unknown }

/** Without the callback, a message to a process that has just ended would be an uncaught error of this one. */
function send (to: Channel, message: Message): void {
  to.send(message, () => {})
}
