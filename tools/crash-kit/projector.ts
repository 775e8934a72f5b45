/** The projector with one more read model, which no later event can mend: for each aggregate, how many events and which versions it has seen. */
import { eventTypesOf, projection, update, type Module, type Recorded } from '@bifold/cqrs'
import kafka from '@bifold/kafka'
import { modules } from '@bifold/modules'
import mongo from '@bifold/mongo'
import projections from '@bifold/projections'
import { loadConfig, serve, setting } from '@bifold/service'

/** It shows the version, so that nothing is noted for it: the load that is watched shall pay for this as little as can be. */
interface Count { readonly _id: string, readonly version: number, readonly events: number, readonly versions: number }

const count = ({ id, version }: Recorded) => update<Count>(id, { set: { version }, inc: { events: 1, versions: version } })
const counts = projection<Recorded, Count>({ collection: 'counts', indexes: [], on: Object.fromEntries([...eventTypesOf(modules)].map(type => [type, count])) })

const [books, ...others] = modules as [Module, ...Module[]]
const counted = [{ ...books, projections: [...books.projections, counts] } as Module, ...others]

const settings = loadConfig({
  POSTGRES_URL: setting.postgres('Whose event log fills read models that have nothing yet'),
  KAFKA_BROKERS: setting.brokers(),
  MONGO_URL: setting.mongo('Where the read models are kept'),
  EVENTS_TOPIC: setting.topic(),
  LAG_MAX_SECONDS: setting.lag(),
  PROJECTOR_PORT: setting.port(3002)
})
await serve(async app => {
  await app.register(kafka, { brokers: settings.KAFKA_BROKERS })
  await app.register(mongo, { url: settings.MONGO_URL })
  await app.register(projections, { modules: counted, url: settings.POSTGRES_URL, topic: settings.EVENTS_TOPIC, lagMaxSeconds: settings.LAG_MAX_SECONDS })
}, settings, { name: 'projector', host: settings.HOST, port: settings.PROJECTOR_PORT, logLevel: settings.LOG_LEVEL })
