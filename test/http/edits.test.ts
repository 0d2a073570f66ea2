import t from 'tap'
import { compileEdits, rewriteTarget } from '../../src/http/edits.ts'

t.test('the route’s path gives way to another; the rest stays as it was sent', async (t) => {
  for (const [path, rewrite, target, expected] of [
    ['/api', '/', '/api', '/'],
    ['/api', '/', '/api/', '/'],
    ['/api', '/', '/api?x', '/?x'],
    ['/api', '/', '/api/a%2Fb/../c?d=/e', '/a%2Fb/../c?d=/e'],
    ['/api/', '/', '/api/x', '/x'],
    ['/api/', '/', '/api/', '/'],
    ['/api', '/v2', '/api', '/v2'],
    ['/api', '/v2/', '/api/x', '/v2/x'],
    ['/api/', '/v2', '/api/x//y', '/v2/x//y'],
    ['/api', '/v2', '/api//x', '/v2//x'],
    ['/', '/app', '/', '/app/'],
    ['/', '/app', '/x?y', '/app/x?y'],
    ['/', '/', '/x', '/x'],
    ['/api', '/', '/api//evil.example/x', '/evil.example/x'],
  ] as const) {
    t.equal(rewriteTarget(target, path, rewrite), expected, `${path} → ${rewrite}: ${target}`)
  }
})

t.test('rules that change nothing are no edits', async (t) => {
  t.equal(compileEdits(undefined), undefined)
  t.equal(compileEdits({ set: {}, add: {}, remove: [] }), undefined)
})

t.test('what is set or removed is dropped under any case; what is set or added is sent', async (t) => {
  t.strictSame(compileEdits({ set: { 'X-A': '1' }, add: { 'x-b': '2' }, remove: ['COOKIE'] }), {
    dropped: ['x-a', 'cookie'],
    added: [
      ['X-A', '1'],
      ['x-b', '2'],
    ],
    lines: 'X-A: 1\r\nx-b: 2\r\n',
  })
})
