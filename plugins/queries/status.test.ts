/** What a failed query is told over gRPC: as Google's libraries read it, and within the headers that they take. */
import t from 'tap'
import { status } from '@grpc/grpc-js'
import { createError, invalidInput, Overloaded } from '@bifold/cqrs'
import { rpc } from '@bifold/proto'
import { statusOf } from './status.ts'

const headerBytesMax = 8192 // of a C++ or Java client that is not told otherwise

/** The details by their names. */
function detailsOf (error: unknown) {
  const { code, metadata } = statusOf(error)
  const told = rpc.Status.decode(metadata.get(rpc.detailsKey)[0] as Buffer)
  t.equal(told.code, code)
  const find = (name: Parameters<typeof rpc.typeUrl>[0]) => told.details.find(({ typeUrl }) => typeUrl === `type.googleapis.com/google.rpc.${name}`)?.value
  const [info, bad, retry] = [find('ErrorInfo'), find('BadRequest'), find('RetryInfo')]
  return { told, info: info && rpc.ErrorInfo.decode(info), fields: bad && rpc.BadRequest.decode(bad).fieldViolations, retry: retry && rpc.RetryInfo.decode(retry).retryDelay }
}

t.test('wrong fields are named as in the .proto file', async t => {
  const { told, info, fields, retry } = detailsOf(invalidInput('request', [{ path: '/pageSize', message: 'must be <= 1000' }, { path: '/ids/3', message: 'must be a valid uuid' }, { path: '/range/yearMin', message: 'is wrong' }]))
  t.equal(told.message, 'Wrong input in the request')
  t.same(info, { reason: 'INVALID_INPUT', domain: 'bifold' })
  t.same(fields, [{ field: 'page_size', description: 'must be <= 1000' }, { field: 'ids[3]', description: 'must be a valid uuid' }, { field: 'range.year_min', description: 'is wrong' }])
  t.equal(retry, undefined)
})

t.test('what may succeed later says when, and has no fields', async t => {
  const { fields, retry } = detailsOf(new Overloaded())
  t.equal(fields, undefined)
  t.same(retry, { seconds: 0, nanos: 100_000_000 })
})

t.test('a bug is INTERNAL, and tells nothing of itself', async t => {
  const { code, details, metadata } = statusOf(new Error('password=x'))
  t.match({ code, details }, { code: status.INTERNAL, details: 'Something went wrong on our side' })
  t.notMatch(JSON.stringify([...metadata.get(rpc.detailsKey), metadata]), /password/)
})

t.test('however much is wrong, it fits into the headers of a client', async t => {
  const Long = createError<[what: string]>('BOOKS_LONG', '%s', 400)
  for (const error of [
    invalidInput('request', Array.from({ length: 100 }, (_, n) => ({ path: `/ids/${n}`, message: 'must be a valid uuid, with a word or two more than usual' }))),
    invalidInput('request', [{ path: '/title', message: '…'.repeat(9000) }]),
    new Long('é'.repeat(9000))
  ]) {
    const { details, metadata } = statusOf(error)
    const sent = metadata.toHttp2Headers()
    t.ok(encodeURIComponent(details).length + String(sent[rpc.detailsKey]).length < headerBytesMax, `${encodeURIComponent(details).length} + ${String(sent[rpc.detailsKey]).length}`)
    t.notMatch(details, /\uFFFD/)
  }
})
