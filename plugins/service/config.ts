/** Loads an app's settings from the environment, and from the local stack's dotenv file for what the environment leaves out. */
import envSchema from 'env-schema'
import { Type, type Static, type TObject, type TProperties } from 'typebox'

/** What every app can be told. */
const base = {
  HOST: Type.String({ default: '127.0.0.1', description: 'The address to listen on' }),
  WORKERS: Type.Integer({ minimum: 1, maximum: 64, default: 1, description: 'Processes that share the work and the ports' }),
  LISTEN_FDNAMES: Type.Optional(Type.String({ pattern: '^((http|grpc|own)(:|$))*$', description: 'The names of the sockets that it was given to listen on, in the place of ports' })),
  BIFOLD_WORKER: Type.Optional(Type.Integer({ minimum: 1, description: 'Which of the workers it is: told by the process that has started it' })),
  OWN_PORT: Type.Optional(Type.Integer({ minimum: 0, maximum: 65535, description: 'Where it alone serves health and metrics, though others share its ports' })),
  LOG_LEVEL: Type.Enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], { default: 'info' })
}

const escaped = 'where # and / in the password are written %23 and %2F'

/** What a setting may have to be beside what JSON Schema knows, in words and as a check: refused is what the client library would not take either, and would tell without the name of the variable. */
const formats = {
  postgres: {
    words: `a URL such as postgres://user:password@host:5432/database, ${escaped}`,
    // pg takes the folder of a socket, too: alone, as a URL, or in the query of a URL, which then may have a user without a host.
    check: (text: string) => text.startsWith('/') || (/^(socket:|[a-z][a-z0-9+.-]*:\/\/)/i.test(text) && URL.canParse(text.replace('@/', '@host/')))
  },
  mongo: {
    words: `a URL such as mongodb://user:password@host:27017/database, ${escaped}`,
    // Its hosts may be many, which no other URL has, or sockets: it is read as the driver reads it, with one name in their place.
    check: (text: string) => /^mongodb(\+srv)?:\/\//.test(text) && URL.canParse(text.replace(/^([^/]+:\/\/([^@]*@)?)[^/?@]+/, '$1hosts'))
  },
  brokers: {
    words: 'hosts with their ports, such as one:9092,two:9092',
    check: (text: string) => text.split(',').every(broker => /^[^\s:/]+:\d{1,5}$/.test(broker.trim()))
  }
}

/** Settings that several apps share. */
export const setting = {
  postgres: (description: string) => Type.String({ format: 'postgres', description }),
  mongo: (description: string) => Type.String({ format: 'mongo', description }),
  brokers: (description = 'Host and port of each broker, with commas between') => Type.String({ format: 'brokers', description }),
  port: (port: number) => Type.Integer({ minimum: 0, maximum: 65535, default: port }),
  lag: () => Type.Number({ minimum: 1, default: 300, description: 'Seconds that the oldest event may wait before the app is no longer ready' }), // a deployment or a failover takes less
  names: (description: string) => Type.String({ default: '', pattern: '^([A-Za-z0-9]+(,[A-Za-z0-9]+)*)?$', description }),
  tokenSecret: () => Type.String({ default: '', maxLength: 200, description: 'What consistency tokens are signed with: the same for gateway and query' }),
  topic: () => Type.String({ default: 'cqrstopic', minLength: 1, maxLength: 249, pattern: '^[A-Za-z0-9._-]+$' }) // Kafka's own limits
}

/**
 * Reads the settings of one app.
 *
 * @throws an error that names the variable and what was wrong with it
 */
export function loadConfig<Properties extends TProperties> (properties: Properties): Static<TObject<Properties & typeof base>> {
  const path = process.env['BIFOLD_ENV_FILE'] ?? '.stack/env'
  try {
    return envSchema<Static<TObject<Properties & typeof base>>>({ schema: Type.Object({ ...base, ...properties }), dotenv: { path }, ajv: { customOptions: ajv => Object.entries(formats).reduce((all, [name, { check }]) => all.addFormat(name, check), ajv) } })
  } catch (error) {
    const wrong = (error as { errors?: { instancePath: string, message?: string, params: { missingProperty?: string, format?: keyof typeof formats } }[] }).errors
    if (wrong === undefined) throw error
    const sentences = wrong.map(({ instancePath, message, params: { missingProperty, format } }) => {
      if (missingProperty !== undefined) return `${missingProperty} is not set`
      return `${instancePath.slice(1)} ${format === undefined ? message : `must be ${formats[format].words}`}`
    })
    throw new Error(`Settings: ${sentences.join('; ')}. Set them in the environment, or bring up the local servers, which write ${path}: npm run stack -- up`)
  }
}
