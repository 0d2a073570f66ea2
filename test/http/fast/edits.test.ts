import t from 'tap'
import { compileEdits } from '../../../src/http/edits.ts'
import { HeadEditor } from '../../../src/http/fast/edits.ts'
import { Head } from '../../../src/http/fast/head.ts'

const LONG = 'X-A-Name-That-Is-Longer-Than-All-Names-That-The-Lexer-Knows'

const HEAD = `GET /api/x HTTP/1.1\r\nHost: a\r\nX-Gone: 1\r\nx-set: 2\r\n${LONG}: 3\r\nX-Gone-Not: 4\r\nX-GONE: 5\r\n\r\n`
const EDITS = compileEdits({ set: { 'X-Set': 'é' }, add: { 'X-Added': '6' }, remove: ['x-gone', LONG] })

t.test('a request gets its target and its edits, whatever the case of names', async (t) => {
  const head = Buffer.from(HEAD)
  const route = { path: '/api', rewrite: '/', requestEdits: EDITS }
  t.equal(
    new HeadEditor().editRequest(head, route, '/api/x').toString('latin1'),
    'GET /x HTTP/1.1\r\nHost: a\r\nX-Gone-Not: 4\r\nX-Set: é\r\nX-Added: 6\r\n\r\n',
  )
  t.equal(head.toString(), HEAD, 'what came is kept for a second try')
})

t.test('a longer target, and no edits', async (t) => {
  const route = { path: '/api', rewrite: '/another/place', requestEdits: undefined }
  t.equal(
    new HeadEditor().editRequest(Buffer.from(HEAD), route, '/api/x').toString(),
    HEAD.replace('/api/x', '/another/place/x'),
  )
})

t.test('a response gets its edits in place', async (t) => {
  const lines = Buffer.alloc(1000)
  const head = new Head()
  head.fieldsStart = HEAD.indexOf('Host')
  head.length = lines.write(HEAD.slice(0, -2))
  new HeadEditor().editResponse(head, lines, EDITS!)
  t.equal(
    lines.toString('latin1', 0, head.length),
    'GET /api/x HTTP/1.1\r\nHost: a\r\nX-Gone-Not: 4\r\nX-Set: é\r\nX-Added: 6\r\n',
  )
})
