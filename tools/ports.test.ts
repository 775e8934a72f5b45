/** Which ports the processes of the apps get, and what is said of settings that cannot be. */
import getPort from 'get-port'
import t from 'tap'
import { addressOf, ownPorts, portsAreFree, type Ports } from './ports.ts'

const host = '127.0.0.1'
const ports: Ports = { GATEWAY_PORT: 3000, QUERY_HTTP_PORT: 3001, QUERY_GRPC_PORT: 50051, PROJECTOR_PORT: 3002, RELAY_PORT: 3003 }

t.test('a further process has a port ten above the one before', async t => {
  t.same(ownPorts(3002, 1, ports), [3012, 3013, 3014, 3015, 3016, 3017, 3018, 3019, 3020, 3021])
  t.equal(ownPorts(3002, 2, ports)[0], 3022)
})

t.test('a further process leaves the ports in the settings to those whose they are', async t => {
  t.equal(ownPorts(3000, 1, { ...ports, QUERY_HTTP_PORT: 3010, PROJECTOR_PORT: 3011 })[0], 3012)
})

t.test('a further process may have any port that there is', async t => {
  t.same(ownPorts(80, 1, ports)[0], 90)
  t.same(ownPorts(65_520, 1, ports), [65_530, 65_531, 65_532, 65_533, 65_534, 65_535])
  t.same(ownPorts(65_530, 1, ports), [])
})

t.test('an address is one that a URL may have', async t => {
  t.equal(addressOf('127.0.0.1', 3000), '127.0.0.1:3000')
  t.equal(new URL(`http://${addressOf('::1', 3000)}`).port, '3000')
})

t.test('one port for two is told with both settings', async t => {
  const port = await getPort()
  await t.rejects(portsAreFree(host, { ...ports, GATEWAY_PORT: port, QUERY_HTTP_PORT: port }), { name: 'StackError', message: `GATEWAY_PORT and QUERY_HTTP_PORT are both ${port}: set one of them to another port.` })
})
