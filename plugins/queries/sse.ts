/** Mounts a query that is watched as an HTTP route of Server-Sent Events, which browsers read and begin again by themselves. */
import { Type } from 'typebox'
import type { RouteOptions } from 'fastify'
import { Cancelled, isDomainError, ResumeTokenExpired, type AnyWatch, type Message, type Module, type News } from '@bifold/cqrs'
import { responses } from '@bifold/openapi'
import { fromQuery, tokenHeader, tokensOf } from './http.ts'
import type { Format, Watch } from './live/index.ts'

const retryMs = 1000 // a browser that was cut off comes again after
const refusedRetryMs = 5000 // and one that cannot be served yet: MongoDB needs seconds to choose another primary, and ten thousand are 2,000 requests/s

const Headers = Type.Object({
  ...tokenHeader,
  'last-event-id': Type.Optional(Type.String({ description: 'The last `id` that came: only what has changed since is told. A browser sends it by itself' }))
})

/** News as events: `snapshot`, `changed`, `removed`, each with the JSON of the RPC's message; the last of them has the resume token as its `id`. */
export const sseFormat: Format = (type: Message<unknown>, message) => news => {
  const { begins, changed, removed, resumeToken } = news
  const json = (part: Partial<News<never>>) => JSON.stringify(type.toJSON(message({ begins: false, changed: [], removed: [], resumeToken, ...part })))
  const events = [
    ...begins || (changed.length > 0 && resumeToken === '') ? [`event: snapshot\ndata: ${json({ begins, changed })}\n`] : [],
    ...changed.length > 0 && resumeToken !== '' ? [`event: changed\ndata: ${json({ changed })}\n`] : [],
    ...removed.length > 0 ? [`event: removed\ndata: ${json({ removed })}\n`] : []
  ]
  // With the last, or alone: who is cut off in between is told all of them again. A browser keeps an id that comes without data, too.
  const id = resumeToken === '' ? '' : `id: ${resumeToken}\n`
  return Buffer.from(events.length === 0 ? `${id}: nothing new\n\n` : `${events.slice(0, -1).map(event => `${event}\n`).join('')}${id}${events.at(-1)}\n`)
}

/** The route; `ending` is given when the app closes. */
export function sseRoute (name: string, module: Module, { url, summary, input, watch: { resumeField } }: AnyWatch, watch: Watch, ending: AbortSignal): RouteOptions {
  const { requestType } = module.service.methods[name]!
  const inQuery = Object.entries(input.properties as Record<string, object>)
  return {
    method: 'GET',
    url: url.replace(/^(\/[^:]*[^/]):(?=\w)/, '$1::'),
    exposeHeadRoute: false, // it would watch, and tell nothing until it is given up
    schema: {
      operationId: name,
      summary,
      tags: [module.name],
      headers: Headers,
      querystring: Type.Partial(Type.Object(Object.fromEntries(inQuery) as never)),
      response: {
        ...responses(200, '', Type.Object({}), {
          400: 'The request is wrong; `errors` names each field', 410: 'What came after the resume token is not kept any more', 429: 'As many watch as one process takes', 503: 'MongoDB is away, or the read model is being built', 504: 'The read model did not show in time what a Consistency-Token names'
        }),
        200: { description: 'Server-Sent Events: `snapshot`, `changed` and `removed`, until the client goes. Whoever names `text/event-stream` in `accept`, as a browser does, is told a snapshot in place of a 410, and nothing but when to come again in place of a 429, 503 or 504', content: { 'text/event-stream': { schema: Type.String() } } }
      }
    },
    validatorCompiler: () => () => true, // the watch checks the request itself, as it does for gRPC
    handler: async (request, reply) => {
      const fields = fromQuery(request.query as Record<string, unknown>, inQuery)
      const last = request.headers['last-event-id']
      const isEventSource = request.headers.accept?.includes('text/event-stream') === true // after any status but 200 it gives up for good
      const leaving = new AbortController()
      reply.raw.once('close', () => leaving.abort(new Cancelled()))
      const signal = AbortSignal.any([leaving.signal, ending])
      const begin = (afterMs: number) => {
        reply.hijack()
        // The connection ends with the stream: kept alive, one that ends while the app closes would hold that up until it times out.
        reply.raw.writeHead(200, { ...reply.getHeaders() as Record<string, string>, 'content-type': 'text/event-stream', 'cache-control': 'no-store', connection: 'close', 'x-accel-buffering': 'no' })
        reply.raw.write(`retry: ${afterMs}\n\n`)
      }
      const write = (message: Uint8Array, written: () => void) => {
        if (!reply.sent) begin(retryMs) // until then an error is a problem, as of any route
        reply.raw.write(message, () => written())
      }
      const watchFrom = async (resumeToken: object) => await watch(requestType.fromJSON({ ...fields, ...resumeToken }), { write }, { tokens: tokensOf(request), signal })
      try {
        return await watchFrom(typeof last === 'string' && last !== '' ? { [resumeField]: last } : {}).catch(async error => {
          if (!isEventSource || reply.sent || !(error instanceof ResumeTokenExpired)) throw error
          return await watchFrom({ [resumeField]: '' }) // its snapshot says that it begins
        })
      } catch (error) {
        const again = isEventSource && isDomainError(error) && error.retryable
        if (!reply.sent && !signal.aborted && !again) throw error
        // Of an empty answer without its type, EventSource takes it that there is nothing to come back to.
        if (!reply.sent) begin(signal.aborted ? retryMs : refusedRetryMs)
        reply.raw.end(again ? `: ${error.code}\n\n` : undefined) // and the client goes on with its last id
      }
    }
  }
}
