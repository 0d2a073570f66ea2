import t from 'tap'
import { errorPage, titleOf } from '../../src/http/pages.ts'

t.test('text for programs, HTML for browsers, with the id in both', async (t) => {
  const text = errorPage(502, 'abc-1', undefined)
  t.match(text.contentType, /^text\/plain/)
  t.equal(text.body, '502 Bad Gateway\nRequest abc-1\n')
  t.equal(errorPage(502, 'abc-1', '*/*').body, text.body)
  const html = errorPage(504, 'abc-2', 'text/html,application/xhtml+xml;q=0.9')
  t.match(html.contentType, /^text\/html/)
  t.match(html.body, /<title>504 Gateway Timeout<\/title>/)
  t.match(html.body, '<code>abc-2</code>')
})

t.test('every status that the proxy answers with has a title', async (t) => {
  for (const status of [308, 400, 404, 408, 413, 417, 421, 431, 501, 502, 503, 504])
    t.not(titleOf(status), 'Error', String(status))
})
