/** The rules of the book, without I/O, and the conformance of the module. */
import t from 'tap'
import { given } from '@bifold/cqrs'
import { testModule } from '@bifold/cqrs/conformance'
import { BookAdded, BookRevised, BookWithdrawn } from './book.ts'
import { addBook, reviseBook, withdrawBook } from './commands.ts'
import { BookIsWithdrawn, BookNotFound } from './errors.ts'
import { isbn, isbn13 } from './fields.ts'
import lock from './events.lock.json' with { type: 'json' }
import { books } from './index.ts'

const emma = { title: 'Emma', authors: ['Jane Austen'], isbn: '9780141439587', price: 899 }

testModule(t, books, lock)

t.test('a book is added', async () => {
  given().when(addBook, emma).then(BookAdded(emma))
})

t.test('an ISBN is kept as ISBN-13, digits only, however it was written', async () => {
  given().when(addBook, { ...emma, isbn: '0-14-143958-0' }).then(BookAdded({ ...emma, isbn: '9780141439587' }))
  given(BookAdded(emma)).when(reviseBook, { isbn: '978-0-14-143958-7' }).then()
})

t.test('a revision tells what changed, and null takes a field away', async () => {
  given(BookAdded(emma)).when(reviseBook, { price: 799 }).then(BookRevised({ price: 799 }))
  given(BookAdded(emma), BookRevised({ price: null })).when(reviseBook, { price: null }).then()
})

t.test('revising nothing yields no event', async () => {
  given(BookAdded(emma)).when(reviseBook, {}).then()
  given(BookAdded(emma)).when(reviseBook, { title: 'Emma', authors: ['Jane Austen'] }).then()
})

t.test('what does not exist can be neither revised nor withdrawn', async () => {
  given().when(reviseBook, { title: 'Emma' }).throws(BookNotFound)
  given().when(withdrawBook, {}).throws(BookNotFound)
})

t.test('a withdrawn book can be neither revised nor withdrawn again', async () => {
  given(BookAdded(emma)).when(withdrawBook, {}).then(BookWithdrawn({}))
  given(BookAdded(emma), BookWithdrawn({})).when(reviseBook, { title: 'Emma II' }).throws(BookIsWithdrawn)
  given(BookAdded(emma), BookWithdrawn({})).when(withdrawBook, {}).throws(BookIsWithdrawn)
})

t.test('the check digit of an ISBN is checked, in both lengths', async t => {
  for (const good of ['9780141439587', '978-0-14-143958-7', '0141439580', '080442957X']) t.ok(isbn.validate(good), good)
  for (const bad of ['9780141439588', '0141439581', '97801414395', 'emma', '']) t.notOk(isbn.validate(bad), bad)
  t.equal(isbn13('080442957X'), '9780804429573')
})
