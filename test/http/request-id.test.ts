import t from 'tap'
import { RequestIds } from '../../src/http/request-id.ts'

t.test('ids are unique, also over processes', async (t) => {
  const ids = [new RequestIds(), new RequestIds()].flatMap((source) => [source.next(), source.next()])
  t.equal(new Set(ids).size, 4)
})

t.test('a received id is kept when it can be logged and put on a page', async (t) => {
  const ids = new RequestIds()
  for (const id of ['4bf92f3577b34da6', 'a.b:c+d/e=f@g-h_i', 'x'.repeat(128)]) t.equal(ids.continue(id), id)
  for (const id of [undefined, '', 'a b', '<b>', 'a"b', 'é', 'x'.repeat(129)]) t.not(ids.continue(id), id)
})
