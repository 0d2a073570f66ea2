import { scryptSync } from 'node:crypto'
import t from 'tap'
import { BasicAuth, Gate } from '../../src/http/basic-auth.ts'

/** A cheap hash. */
function hashOf(password: string): string {
  const base64 = (bytes: Buffer): string => bytes.toString('base64').replace(/=+$/, '')
  const salt = Buffer.alloc(16, 's')
  return `$scrypt$ln=4,r=1,p=1$${base64(salt)}$${base64(scryptSync(password, salt, 32, { N: 16, r: 1, p: 1 }))}`
}

const USERS = { alice: hashOf('wonder:land'), 'jos\u00e9': hashOf('s\u00ed') }

function makeAuth(gate = new Gate()): BasicAuth {
  return new BasicAuth({ users: USERS, realm: 'Staff' }, gate)
}

function basic(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
}

t.test('who has name and password is let in; others are not', async (t) => {
  for (const [user, password, admission] of [
    ['alice', 'wonder:land', 'granted'],
    ['jos\u00e9', 's\u00ed', 'granted'],
    ['alice', 'wonderland', 'refused'],
    ['alice', '', 'refused'],
    ['ALICE', 'wonder:land', 'refused'],
    ['bob', 'wonder:land', 'refused'],
    ['', 'wonder:land', 'refused'],
    ['jos\u00e9', 'wonder:land', 'refused'],
    ['__proto__', 'x', 'refused'],
  ] as const)
    t.equal(await makeAuth().check(basic(user, password)), admission, `${user} ${password}`)
})

t.test('what is no Basic is refused at once', async (t) => {
  const auth = makeAuth()
  const encoded = Buffer.from('alice:wonder:land').toString('base64')
  for (const value of [
    undefined,
    '',
    'Basic',
    'Basic ',
    `Bearer ${encoded}`,
    encoded,
    `Basic ${encoded}, Basic ${encoded}`,
    `Basic ${Buffer.from('alice').toString('base64')}`,
    'Basic !!!!',
  ])
    t.equal(auth.check(value), 'refused', String(value))
  t.equal(await auth.check(`basic  ${encoded}`), 'granted')
})

t.test(
  'a password is hashed once: then its requests are answered at once, and as long as it is hashed they wait for it',
  async (t) => {
    const auth = makeAuth()
    const first = auth.check(basic('alice', 'wonder:land'))
    t.equal(auth.check(basic('alice', 'wonder:land')), first)
    t.equal(await first, 'granted')
    t.equal(auth.check(basic('alice', 'wonder:land')), 'granted')
    const wrong = auth.check(basic('alice', 'wrong'))
    t.type(wrong, Promise)
    t.equal(await wrong, 'refused')
    t.equal(auth.check(basic('alice', 'wrong')), 'refused')
  },
)

t.test('a flood of wrong passwords is turned away, who is known is not', async (t) => {
  const auth = makeAuth()
  await auth.check(basic('alice', 'wonder:land'))
  const flood = Array.from({ length: 200 }, (_, i) => auth.check(basic('alice', String(i))))
  t.equal(auth.check(basic('alice', 'wonder:land')), 'granted')
  t.equal(flood.filter((admission) => admission === 'busy').length, 200 - 66)
  t.strictSame(new Set(await Promise.all(flood)), new Set(['refused', 'busy']))
  t.equal(await auth.check(basic('jos\u00e9', 's\u00ed')), 'granted', 'and then there is room again')
})

t.test('no more than two passwords are hashed at once', async (t) => {
  const gate = new Gate()
  let running = 0
  let most = 0
  await Promise.all(
    Array.from({ length: 10 }, () =>
      gate.run(async () => {
        most = Math.max(most, ++running)
        await new Promise(setImmediate)
        running--
      }),
    ),
  )
  t.equal(most, 2)
  t.equal(running, 0)
})

t.test('the challenge names the realm', async (t) => {
  t.equal(makeAuth().challenge, 'Basic realm="Staff", charset="UTF-8"')
})
