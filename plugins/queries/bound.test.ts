/** The bound of the queries under way: over all queries together, and given back by those that fail too. */
import t from 'tap'
import { makeBound } from './bound.ts'

const call = { deadline: Infinity, tokens: [], connection: () => undefined, gone: () => false, onEnd () {} }

t.test('one query more than may be under way is refused at once, as one to try again', async t => {
  const bounded = makeBound(2)
  const [slow, failing] = [Promise.withResolvers<string>(), Promise.withResolvers<string>()]
  const { list } = bounded({ list: async () => await slow.promise })
  const { get } = bounded({ get: async () => await failing.promise })
  const answers = [list!({}, call), get!({}, call)]
  await t.rejects(get!({}, call), { code: 'OVERLOADED', statusCode: 503, retryable: true })
  await t.rejects(list!({}, call), { code: 'OVERLOADED' })
  failing.reject(new Error('no'))
  await t.rejects(answers[1]!, { message: 'no' })
  const again = list!({}, call)
  slow.resolve('listed')
  t.same(await Promise.all([answers[0], again]), ['listed', 'listed'], 'what failed has made room')
})
