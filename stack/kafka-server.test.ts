/** What a broker reads of its settings, wherever its data lies. */
import t from 'tap'
import { properties } from './kafka-server.ts'

t.test('a folder may have any name', async t => {
  const dirs = (data: string) => /^log\.dirs=(.*)$/m.exec(properties(0, [9092, 19092])(data))?.[1]
  t.equal(dirs('/srv/books 2/data'), '/srv/books 2/data')
  t.equal(dirs('/srv/Bücher/data'), '/srv/B\\u00fccher/data')
  t.equal(dirs('/srv/\u{1f4da}/data'), '/srv/\\ud83d\\udcda/data', 'in units of UTF-16, as Java wants them')
  t.equal(dirs('/srv/a\\b'), '/srv/a\\\\b')
})
