import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { parsePasswordHash, verifyPassword } from '../../src/password.ts'

const PROGRAM = join(import.meta.dirname, '../../bin/holdfast.js')

function hashPassword(input: string, ...args: string[]): { status: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, 'hash-password', ...args], {
    input,
    encoding: 'utf8',
  })
  return { status, out: stdout, err: stderr }
}

t.test('the first line of stdin becomes a hash that verifies it', async (t) => {
  const { status, out, err } = hashPassword('correct horse \r\nsecond line\n')
  t.equal(err, '')
  t.equal(status, 0)
  t.equal(await verifyPassword('correct horse ', parsePasswordHash(out.trim())!), true)
})

t.test('no password, or a password as an argument: exit code 2', async (t) => {
  t.match(hashPassword('\n'), { status: 2, out: '', err: 'holdfast: the password is empty' })
  t.match(hashPassword('', 'secret'), { status: 2, out: '', err: 'holdfast: Unexpected argument' })
})
