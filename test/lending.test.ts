/** The second domain through the whole pipeline: what is borrowed over HTTP is read over gRPC and HTTP, and compared like the first. */
import t, { type Test } from 'tap'
import { credentials, status } from '@grpc/grpc-js'
import { modules } from '@bifold/modules'
import { lendingV1 } from '@bifold/proto'
import { comparable, compare } from '@bifold/tools/compare'
import { call, pipeline, readTopic, until, type Pipeline } from './pipeline.ts'

function lendingOf (t: Test, { grpc }: Pipeline) {
  const client = new lendingV1.LendingQueryServiceClient(grpc, credentials.createInsecure())
  t.teardown(() => client.close())
  return {
    member: async (id: string) => await call<lendingV1.GetMemberRequest, lendingV1.Member>(client.getMember.bind(client), { id }),
    entry: async (id: string) => await call<lendingV1.GetCatalogueEntryRequest, lendingV1.CatalogueEntry>(client.getCatalogueEntry.bind(client), { id }),
    page: async (id: string) => await call<lendingV1.GetMemberPageRequest, lendingV1.MemberPage>(client.getMemberPage.bind(client), { id }),
    loan: async (id: string) => await call<lendingV1.GetLoanRequest, lendingV1.Loan>(client.getLoan.bind(client), { id }),
    loans: async (request: Partial<lendingV1.ListLoansRequest>) => (await call<lendingV1.ListLoansRequest, lendingV1.ListLoansResponse>(client.listLoans.bind(client), lendingV1.ListLoansRequest.fromPartial(request))).loans
  }
}

/** Waits until MongoDB has all that PostgreSQL has, of every aggregate that can be compared. */
async function untilEqual ({ db, mongo }: Pipeline) {
  return await until(async () => {
    const found = await Promise.all(comparable(modules).map(async aggregate => await compare(db, mongo as never, aggregate)))
    return found.every(({ missing, extra, differing }) => missing + extra + differing === 0) && found
  }, 'MongoDB to equal PostgreSQL')
}

async function created (line: Pipeline, url: string, body: object): Promise<string> {
  const answer = await line.post(url, body)
  if (answer.status !== 201) throw new Error(JSON.stringify(answer.body))
  return answer.body.id
}

t.test('members and loans are read over gRPC and HTTP as they are', async t => {
  const line = await pipeline(t)
  const lending = lendingOf(t, line)
  const [memberId, ...books] = await Promise.all([created(line, '/lending/members', { name: 'Fanny Price' }), ...['Emma', 'Persuasion'].map(async title => await created(line, '/books', { title, authors: ['Jane Austen'] }))])
  const loans: string[] = []
  for (const bookId of books) loans.push(await created(line, '/lending/loans', { memberId, bookId }))
  t.match(await line.post(`/lending/loans/${loans[1]}/renew`, undefined), { status: 200, body: { id: loans[1], version: 2 } })
  t.match(await line.post(`/lending/loans/${loans[0]}/return`, undefined), { status: 200, body: { id: loans[0], version: 2 } })
  t.match(await line.post(`/lending/members/${memberId}/suspend`, undefined), { status: 200, body: { version: 5 } })
  t.match(await untilEqual(line), [{ name: 'books', equal: 2 }, { name: 'members', equal: 1 }, { name: 'loans', equal: 2 }])

  // MongoDB shows it to this test a moment before the majority has it, which the query service waits for.
  await until(async () => (await lending.member(memberId)).version === 5, 'the last event to be read')
  t.same(await lending.member(memberId), { id: memberId, version: 5, name: 'Fanny Price', suspended: true, loanIds: [loans[1]] })
  t.match(await lending.loan(loans[0]!), { version: 2, memberId, bookId: books[0], renewals: 0, returnedOn: /^\d{4}-\d\d-\d\d$/ })
  t.match((await line.get(`/lending/loans/${loans[1]}`)).body, { version: 2, renewals: 1, dueOn: /^\d{4}-\d\d-\d\d$/ })
  t.same((await lending.loans({ memberId })).map(({ id }) => id), loans)
  t.same((await lending.loans({ bookId: books[1]!.toUpperCase() })).map(({ id }) => id), [loans[1]])
  t.same((await lending.loans({ memberId, state: 'open' })).map(({ id }) => id), [loans[1]])
  t.match((await line.get(`/lending/loans?member_id=${memberId}&state=returned`)).body, { loans: [{ id: loans[0] }] })
  await t.rejects(lending.member(loans[0]!), { code: status.NOT_FOUND })
  t.match(await line.get(`/lending/members/${loans[0]}`), { status: 404, body: { code: 'LENDING_MEMBER_NOT_FOUND' } })
  await t.rejects(lending.loans({ state: 'lost' }), { code: status.INVALID_ARGUMENT, details: /state must be one of open, returned/ })

  const messages = await readTopic(line.settings)
  t.match(messages.filter(({ key }) => key === loans[0]), [
    { value: { task: 'insert', data: { id: loans[0], memberId } }, headers: { ce_source: '/loans', ce_type: 'LoanOpened' } },
    { value: { task: 'update', data: { id: loans[0] } }, headers: { ce_source: '/loans', ce_type: 'LoanReturned' } }
  ])
  t.same(messages.filter(({ key }) => key === memberId).map(({ headers }) => headers['ce_source']), Array(5).fill('/members'))
})

t.test('the catalogue and the page of a member show both domains, and a withdrawn book is recalled', async t => {
  const line = await pipeline(t)
  const lending = lendingOf(t, line)
  const [memberId, emma, persuasion] = await Promise.all([created(line, '/lending/members', { name: 'Fanny Price' }), ...['Emma', 'Persuasion'].map(async title => await created(line, '/books', { title, authors: ['Jane Austen'] }))]) as [string, string, string]
  const lent = await line.post('/lending/loans', { memberId, bookId: emma })
  const loanId = lent.body.id
  /** What a read answers that sends the token of the command. */
  const readAfter = async ({ headers }: { headers: Headers }, url: string) => await (await fetch(`${line.query}${url}`, { headers: { 'consistency-token': headers.get('consistency-token')! } })).json() as any
  t.match(await readAfter(lent, `/lending/members/${memberId}`), { loanIds: [loanId] }, 'a read with the token shows what the command has recorded elsewhere, too')
  t.match(await readAfter(lent, `/lending/catalogue/${emma}`), { id: emma, title: 'Emma', loanCount: 1, dueOn: /^\d{4}-\d\d-\d\d$/ })
  t.match(await readAfter(lent, `/lending/member-pages/${memberId}`), { name: 'Fanny Price', loans: [{ loanId, bookId: emma, title: 'Emma' }] })

  await readAfter(await line.send('PATCH', `/books/${emma}`, { title: 'Emma, again' }), `/lending/member-pages/${memberId}`)
  t.match(await lending.page(memberId), { loans: [{ title: 'Emma, again' }] }, 'as the book is called now')
  t.match(await readAfter(lent, '/lending/catalogue?availability=lent'), { entries: [{ id: emma }] })
  t.match((await line.get('/lending/catalogue?availability=available')).body, { entries: [{ id: persuasion, available: true }] })
  t.same((await line.get('/lending/catalogue')).body.entries.map(({ title }: { title: string }) => title), ['Emma, again', 'Persuasion'])

  const withdrawn = await line.send('DELETE', `/books/${emma}`)
  t.match(await readAfter(withdrawn, `/lending/catalogue/${emma}`), { code: 'LENDING_BOOK_NOT_FOUND' })
  await until(async () => (await lending.loan(loanId)).recalledOn !== undefined, 'the recall')
  await until(async () => (await lending.page(memberId)).loans[0]?.recalledOn !== undefined, 'the recall on the page')
  t.match(await line.post('/lending/loans', { memberId, bookId: emma }), { status: 409, body: { code: 'LENDING_BOOK_WITHDRAWN' } })
  const returned = await line.post(`/lending/loans/${loanId}/return`, undefined)
  t.notOk('loans' in await readAfter(returned, `/lending/member-pages/${memberId}`), 'nothing is left on the page')
  t.match(await readAfter(await line.post('/lending/loans', { memberId, bookId: persuasion }), `/lending/catalogue/${persuasion}`), { loanCount: 1 })
  await t.rejects(lending.page(emma), { code: status.NOT_FOUND })
  await untilEqual(line)
})
