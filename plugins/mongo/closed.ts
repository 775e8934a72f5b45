/**
 * An operation fails with its connection. The driver (7.9.0) waits for ever if its server has just gone: the socket is destroyed
 * and has not said so yet; what is written to it then is refused, the driver waits for it to drain, and it never does. So does
 * a large write that the driver breaks off itself. Whoever waits for one more drain finds the connection's error behind it.
 */
import { createRequire } from 'node:module'
import type { Socket } from 'node:net'

interface Connection { readonly socket: Socket, cleanup (error: Error): void }

// The driver does not export the class; its version is pinned in package.json, and closed.test.ts fails if it has another shape.
const { Connection } = createRequire(import.meta.url)('mongodb/lib/cmap/connection.js') as { Connection: { prototype: Connection } }
const { cleanup } = Connection.prototype

Connection.prototype.cleanup = function (error) {
  cleanup.call(this, error)
  this.socket.emit('drain')
}
