/** Runs an app as several processes on one port, which answer for each other: one set of metrics, one health. */
import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import type { FastifyBaseLogger } from 'fastify'
import { Unavailable } from '@bifold/cqrs'
import { keepRunning } from './keep-running.ts'

type Topic = 'metrics' | 'ready'
type Message =
  | { readonly bifold: 'ask' | 'question', readonly topic: Topic, readonly id: number }
  | { readonly bifold: 'answer', readonly id: number, readonly answer: unknown }
  | { readonly bifold: 'answers', readonly id: number, readonly answers: Answers<unknown> }
  | { readonly bifold: 'close' | 'refusing' | 'leave' }

/** What the workers of an app have answered, and how many have not: they are being started, or are silent although they run. */
export interface Answers<T> { readonly answers: readonly T[], readonly starting: number, readonly silent: number }

export interface Peers {
  /** Asks all workers, this one too; rejects when the primary does not answer. */
  ask<T> (topic: Topic): Promise<Answers<T>>
  /** What this worker answers. */
  answer (topic: Topic, make: () => Promise<unknown>): void
  /** Tells that this worker refuses new connections; resolves when all workers do that are to close, so that nobody is sent from one to the other. */
  refusing (): Promise<void>
  /** Calls the listener when the primary wants this worker to close, or is gone. */
  onClose (listener: () => void): void
}

const answerMs: Record<Topic, number> = { ready: 3000, metrics: 8000 } // longer than a check may take; shorter than the 10 s that Prometheus waits
const relayMs = 1000 // the primary's time on top of the workers'
const refusingMs = 1000 // a worker that is that busy is not waited for
const stopMs = 16_000 // a worker closes itself within 15 s; then it is killed

/** In the primary: keeps `count` workers running until it is told to stop. */
export function supervise (count: number, log: FastifyBaseLogger): { stop (): Promise<void> } {
  cluster.setupPrimary({ serialization: 'advanced' }) // NaN, which says that nobody knows, would not survive JSON
  const stopping = new AbortController()
  const round = makeRound(count)
  const refusing = new Set<Worker>()
  cluster.on('message', (worker, message: Message) => {
    if (message.bifold === 'answer') round.answered(message.id, message.answer)
    if (message.bifold === 'refusing') {
      refusing.add(worker)
      // One that ends by itself leaves the port to the others.
      const leaving = stopping.signal.aborted ? round.all() : [worker]
      if (leaving.every(one => refusing.has(one))) for (const one of leaving) send(one, { bifold: 'leave' })
    }
    if (message.bifold === 'ask') void round.ask(message.topic).then(answers => send(worker, { bifold: 'answers', id: message.id, answers }))
  })
  const running = Array.from({ length: count }, async () => await keepRunning(async () => {
    const worker = cluster.fork()
    const stop = () => close(worker, round.includes(worker))
    stopping.signal.addEventListener('abort', stop)
    const [code, signal] = await once(worker, 'exit').catch((error: Error) => [error.message]) // it could not be forked
    stopping.signal.removeEventListener('abort', stop)
    if (!stopping.signal.aborted) log.error({ worker: worker.process.pid, code, signal }, 'a worker ended and is started again')
  }, stopping.signal))
  return {
    async stop () {
      stopping.abort()
      await Promise.all(running)
    }
  }
}

function close (worker: Worker, listens: boolean) {
  // By a message, since Ctrl-C may have signalled the worker already, and a second signal ends it at once. One that is being started has accepted nothing, and does not read messages yet.
  if (listens) send(worker, { bifold: 'close' })
  else worker.process.kill('SIGTERM')
  setTimeout(() => worker.process.kill('SIGKILL'), stopMs).unref()
}

/** Asks all workers that take requests, and waits for them together. */
function makeRound (count: number) {
  const listening = new Set<Worker>()
  const questions = makeQuestions<{ answer: unknown }>()
  cluster.on('listening', worker => { listening.add(worker) })
  // Either may be the first, or the only one: Node holds `disconnect` back while a connection is being handed over.
  for (const event of ['disconnect', 'exit'] as const) {
    cluster.on(event, (worker: Worker) => {
      listening.delete(worker)
      questions.giveUp(worker)
    })
  }
  return {
    async ask (topic: Topic): Promise<Answers<unknown>> {
      const asked = [...listening]
      const found = await Promise.all(asked.map(async worker => await questions.ask(worker, answerMs[topic], id => ({ bifold: 'question', topic, id }))))
      const answers = found.flatMap(given => given?.answer === undefined ? [] : [given.answer])
      return { answers, starting: count - asked.length, silent: asked.length - answers.length }
    },
    answered: (id: number, answer: unknown) => questions.answered(id, { answer }),
    all: () => [...listening],
    includes: (worker: Worker) => listening.has(worker)
  }
}

/** In a worker: its way to the others; undefined in a process that is alone. */
export function makePeers (): Peers | undefined {
  const { worker } = cluster
  if (worker === undefined) return undefined
  const makers = new Map<Topic, () => Promise<unknown>>()
  const questions = makeQuestions<Answers<never>>()
  let close = () => {}
  const leave = Promise.withResolvers<void>()
  worker.on('message', (message: Message) => {
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
  worker.on('disconnect', () => {
    questions.giveUp(worker)
    close()
  })
  const tell = async (id: number, make: (() => Promise<unknown>) | undefined) => {
    const answer = await make?.().catch(() => undefined) // counts as silent
    send(worker, { bifold: 'answer', id, answer })
  }
  return {
    async ask (topic) {
      const answers = worker.isConnected() ? await questions.ask(worker, answerMs[topic] + relayMs, id => ({ bifold: 'ask', topic, id })) : undefined
      if (answers === undefined) throw new Unavailable('The primary process')
      return answers
    },
    async refusing () {
      send(worker, { bifold: 'refusing' })
      const timer = setTimeout(leave.resolve, refusingMs)
      await leave.promise
      clearTimeout(timer)
    },
    answer: (topic, make) => { makers.set(topic, make) },
    onClose (listener) {
      // When the primary is gone, Node ends the worker at once: right until here, but from now on it answers what it has accepted.
      worker.exitedAfterDisconnect = true
      close = listener
    }
  }
}

/** Questions under way: each resolves with its answer, or with undefined when there is none in time, or nobody to give it any more. */
function makeQuestions<T> () {
  const open = new Map<number, { worker: Worker, resolve (answer: T | undefined): void }>()
  let asked = 0
  return {
    async ask (worker: Worker, patienceMs: number, message: (id: number) => Message): Promise<T | undefined> {
      const id = asked++
      const { promise, resolve } = Promise.withResolvers<T | undefined>()
      open.set(id, { worker, resolve })
      const timer = setTimeout(resolve, patienceMs, undefined)
      send(worker, message(id))
      return await promise.finally(() => {
        clearTimeout(timer)
        open.delete(id)
      })
    },
    answered (id: number, answer: T) { open.get(id)?.resolve(answer) },
    giveUp (gone: Worker) { for (const { worker, resolve } of open.values()) if (worker === gone) resolve(undefined) }
  }
}

/** Without the callback, a message to a process that has just ended would be an uncaught error of this one. */
function send (worker: Worker, message: Message): void {
  worker.send(message, () => {})
}
