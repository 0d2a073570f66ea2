import t from 'tap'
import { compressionOf, preferredCoding } from '../../src/http/compression.ts'

t.test(
  'the coding that the client likes best; of equals the better one; none that it does not name',
  async (t) => {
    for (const [accept, coding] of [
      [undefined, undefined],
      ['', undefined],
      ['gzip', 'gzip'],
      ['gzip, deflate, br, zstd', 'zstd'],
      ['gzip, deflate, br', 'br'],
      ['GZIP', 'gzip'],
      ['gzip;q=1.0, br;q=0.8', 'gzip'],
      ['gzip ; q=0.5 , br;q=0.8', 'br'],
      ['gzip;q=0, br;q=0.0', undefined],
      ['gzip;q=0.001', 'gzip'],
      ['gzip;q=2', undefined],
      ['gzip;q=', undefined],
      ['identity', undefined],
      ['identity, gzip;q=0.5', undefined],
      ['identity;q=0.5, gzip', 'gzip'],
      ['identity;q=0', undefined],
      ['*', undefined],
      ['deflate', undefined],
      ['xgzip, gzipx', undefined],
    ] as const)
      t.equal(preferredCoding(accept), coding, accept ?? 'no field')
  },
)

/** The coding and the fields of a response with these, for a client that takes gzip. */
function outcome(fields: Record<string, string>, facts: object = {}): unknown {
  const all: Record<string, string> = { 'content-type': 'text/html', ...fields }
  const response = {
    method: 'GET',
    status: 200,
    contentLength: 2000,
    field: (name: string) => all[name],
    ...facts,
  }
  const compression = compressionOf(response, 'gzip')
  return compression && { coding: compression.coding, added: compression.edits.added }
}

const VARY = ['Vary', 'Accept-Encoding']
const GZIP = { coding: 'gzip', added: [VARY, ['Content-Encoding', 'gzip']] }

t.test('types that gain are compressed, and only those', async (t) => {
  for (const type of [
    'text/html; charset=utf-8',
    'TEXT/CSS',
    'text/event-streamer',
    'application/json',
    'application/problem+json',
    'application/xhtml+xml',
    'application/javascript',
    'application/wasm',
    'image/svg+xml',
  ])
    t.strictSame(outcome({ 'content-type': type }), GZIP, type)
  for (const type of [
    '',
    'text/event-stream',
    'text/event-stream; charset=utf-8',
    'image/png',
    'video/mp4',
    'application/zip',
    'application/octet-stream',
    'application/grpc',
    'font/woff2',
  ])
    t.equal(outcome({ 'content-type': type }), undefined, type)
})

t.test(
  'what is coded, partial, bound to its octets, small or not to be transformed stays as it is',
  async (t) => {
    for (const fields of [
      { 'content-encoding': 'br' },
      { 'content-range': 'bytes 0-9/10' },
      { 'content-digest': 'sha-256=:x:' },
      { 'repr-digest': 'sha-256=:x:' },
      { 'content-md5': 'x' },
      { 'cache-control': 'public, No-Transform' },
    ])
      t.equal(outcome(fields as Record<string, string>), undefined, JSON.stringify(fields))
    for (const status of [101, 204, 205, 206, 304])
      t.equal(outcome({}, { status }), undefined, String(status))
    for (const status of [200, 201, 404, 500]) t.strictSame(outcome({}, { status }), GZIP, String(status))
    t.equal(outcome({}, { contentLength: 1023 }), undefined)
    t.strictSame(outcome({}, { contentLength: 1024 }), GZIP)
    t.strictSame(outcome({}, { contentLength: -1 }), GZIP)
  },
)

t.test('Vary is said once, also where nothing is compressed', async (t) => {
  const coded = ['Content-Encoding', 'gzip']
  t.strictSame(outcome({ vary: 'Cookie' }), { coding: 'gzip', added: [VARY, coded] })
  for (const vary of ['accept-encoding', 'Cookie, Accept-Encoding', '*'])
    t.strictSame(outcome({ vary }), { coding: 'gzip', added: [coded] }, vary)
  t.strictSame(outcome({}, { method: 'HEAD' }), { coding: undefined, added: [VARY] })
})

t.test('a strong ETag becomes a weak one', async (t) => {
  const coded = ['Content-Encoding', 'gzip']
  t.strictSame(outcome({ etag: '"a"' }), { coding: 'gzip', added: [VARY, coded, ['ETag', 'W/"a"']] })
  t.strictSame(outcome({ etag: 'W/"a"' }), { coding: 'gzip', added: [VARY, coded, ['ETag', 'W/"a"']] })
})
