/** Ends the streams of answers that a server has open, as their callers are to see it: with a status, and not with a broken connection. */
import type { Server, ServerWritableStream, ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js'

type Stream = ServerWritableStream<unknown, unknown>

export interface Streams {
  /** What services that stream are to be added to. */
  readonly server: Pick<Server, 'addService'>
  /** Ends all; the statuses are OK, since nothing failed. */
  end (): void
}

export function makeStreams (server: Server): Streams {
  const open = new Set<Stream>()
  const tracked = (handle: (call: Stream) => void) => (call: Stream) => {
    open.add(call)
    for (const event of ['finish', 'cancelled', 'error']) call.once(event, () => { open.delete(call) })
    handle(call)
  }
  return {
    server: {
      addService (service: ServiceDefinition, handlers: UntypedServiceImplementation) {
        server.addService(service, Object.fromEntries(Object.entries(service).map(([name, { originalName = name, responseStream }]) => {
          const handle = (handlers[name] ?? handlers[originalName]) as never
          return [name, responseStream ? tracked(handle) : handle]
        })))
      }
    },
    end () { for (const call of open) call.end() }
  }
}
