import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { inspect, promisify } from 'node:util'
import t, { type Test } from 'tap'
import { silentLog } from '../../src/log.ts'
import { openRedisStore } from '../../src/store/redis.ts'
import type { Store } from '../../src/store/store.ts'
import { freePort, Peer } from '../peers/process.ts'
import { type Redis, startRedis } from '../peers/redis.ts'
import { makeAuthority, makeCertificate } from '../support/certificates.ts'
import { memoryLog } from '../support/log.ts'
import { testStoreContract } from './contract.ts'

const run = promisify(execFile)
const LIMIT_MS = 20_000
const PASSWORD = 's3s@me/open'

t.test('contract', async (t) => {
  const redis = await start(t)
  let database = 0
  testStoreContract(t, async () => `${redis.url}/${database++}`)
})

async function start(t: Test, ...options: string[]): Promise<Redis> {
  const redis = await startRedis('--databases', '64', ...options)
  t.teardown(() => redis.stop())
  return redis
}

async function open(t: Test, url: string): Promise<Store> {
  const store = await openRedisStore(url, silentLog())
  t.teardown(() => store.close())
  return store
}

/** Options that make a user. */
function userBob(...permissions: string[]): string[] {
  return ['--user', 'bob', 'on', `>${PASSWORD}`, '~holdfast:*', ...permissions]
}

/** Lines of its answer. */
async function ask(url: string, ...command: string[]): Promise<string[]> {
  const { stdout } = await run('redis-cli', ['-u', url, ...command])
  return stdout.split('\n').filter((line) => line !== '')
}

function withLogin(url: string, user: string, password: string): string {
  return url.replace('//', `//${user}:${encodeURIComponent(password)}@`)
}

t.test('everything is below holdfast:', async (t) => {
  const { url } = await start(t)
  const store = await open(t, url)
  await store.write('a/b', Buffer.from('1'))
  const lease = await store.lock('x', 60_000, AbortSignal.timeout(LIMIT_MS))
  t.same((await ask(url, 'keys', '*')).sort(), ['holdfast:a/b', 'holdfast:lock:x'])
  await lease.release()
  t.same(await ask(url, 'keys', '*'), ['holdfast:a/b'])
})

t.test('keys of others in the same Redis are not listed', async (t) => {
  const { url } = await start(t)
  await ask(url, 'set', 'holdfast', '1')
  await ask(url, 'set', 'other:holdfast:a', '1')
  await ask(url, 'set', 'holdfast:not a key', '1')
  t.same(await (await open(t, url)).list(''), [])
})

t.test('user, password and database of the URL are used', async (t) => {
  const { url } = await start(t, ...userBob('+@all'), '--requirepass', PASSWORD)
  const byUser = await open(t, `${withLogin(url, 'bob', PASSWORD)}/7`)
  await byUser.write('a', Buffer.from('1'))
  const byDefault = await open(t, `${withLogin(url, '', PASSWORD)}/7`)
  t.same(await byDefault.read('a'), Buffer.from('1'))
  t.equal(await (await open(t, withLogin(url, '', PASSWORD))).read('a'), undefined)
})

t.test('what cannot be opened is refused with what to do, and no password is told', async (t) => {
  const { url } = await start(t, '--requirepass', PASSWORD)
  const closed = `redis://127.0.0.1:${await freePort()}`
  const cases: [string, string, string, RegExp][] = [
    [
      'nothing listens',
      withLogin(closed, '', PASSWORD),
      'STORE_UNAVAILABLE',
      /^Redis at 127\.0\.0\.1:\d+ cannot be used: start it, or correct `store` \(connect ECONNREFUSED/,
    ],
    [
      'no such machine',
      withLogin('redis://nowhere.invalid', '', PASSWORD),
      'STORE_UNAVAILABLE',
      /^Redis at nowhere\.invalid:6379 cannot be used/,
    ],
    ['no password', url, 'STORE_DENIED', /refuses the login: check user and password in `store`/],
    ['wrong password', withLogin(url, '', `${PASSWORD}!`), 'STORE_DENIED', /refuses the login: .*WRONGPASS/],
    ['unknown user', withLogin(url, 'eve', PASSWORD), 'STORE_DENIED', /refuses the login: .*WRONGPASS/],
    [
      'no such database',
      `${withLogin(url, '', PASSWORD)}/64`,
      'STORE_DENIED',
      /has no such database: correct the number/,
    ],
    [
      'TLS to a plain port',
      withLogin(url, '', PASSWORD).replace('redis', 'rediss'),
      'STORE_UNAVAILABLE',
      /Redis at/,
    ],
    [
      'no number of a database',
      `${withLogin(url, '', PASSWORD)}/one`,
      'STORE_DENIED',
      /`store` is no URL of a Redis: write redis:/,
    ],
    ['a bare percent sign', `redis://:${PASSWORD}%zz@127.0.0.1`, 'STORE_DENIED', /percent-encoding/],
    ['no port', withLogin('redis://127.0.0.1:port', '', PASSWORD), 'STORE_DENIED', /is no URL of a Redis/],
  ] // prettier-ignore
  const trials = cases.map(async ([what, storeUrl, code, message]) => {
    const { log, lines } = memoryLog()
    const error: unknown = await openRedisStore(storeUrl, log).catch((reason: unknown) => reason)
    t.match(error, { name: 'StoreError', code, message }, what)
    const told = inspect(error, { depth: Infinity, showHidden: true }) + JSON.stringify(lines)
    t.notOk(told.includes('s3s'), `${what}: no password is told`)
    t.same(lines, [], `${what}: only the error tells it`)
  })
  await Promise.all(trials)
})

t.test('a server that quotes what it is sent does not make us tell the password', async (t) => {
  // Redis before 6 did, of commands that it did not know.
  const server = createServer((socket) => {
    socket.on('data', (data) => {
      const args = data.toString().replace(/\r\n/g, ' ')
      for (const _ of data.toString().match(/^\*/gm) ?? [])
        socket.write(`-ERR unknown command, with args ${args}\r\n`)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const { log, lines } = memoryLog()
  const opening = openRedisStore(`redis://:${encodeURIComponent(PASSWORD)}@127.0.0.1:${port}`, log)
  const error: unknown = await opening.catch((reason: unknown) => reason)
  t.match(error, { name: 'StoreError', message: /unknown command, with args .*\[secret\]/ })
  t.notOk((inspect(error, { depth: Infinity }) + JSON.stringify(lines)).includes('s3s'))
})

t.test('a lease whose key is gone is lost, and releases nothing of another', async (t) => {
  const { url } = await start(t)
  const store = await open(t, url)
  const lease = await store.lock('a', 3000, AbortSignal.timeout(LIMIT_MS))
  await ask(url, 'flushall')
  const other = await (await open(t, url)).lock('a', 60_000, AbortSignal.timeout(LIMIT_MS))
  await once(lease.lost, 'abort', { signal: AbortSignal.timeout(LIMIT_MS) })
  await lease.release()
  t.same(await ask(url, 'keys', '*'), ['holdfast:lock:a'])
  await other.release()
})

t.test('a Redis that is full refuses a write without telling what was to be written', async (t) => {
  const { url } = await start(t)
  const store = await open(t, url)
  await ask(url, 'config', 'set', 'maxmemory', '1')
  const error: unknown = await store.write('a', Buffer.from('BEGIN KEY')).catch((reason: unknown) => reason)
  t.match(error, { name: 'StoreError', code: 'STORE_UNAVAILABLE', message: /is full: raise its `maxmemory`/ })
  t.notMatch(inspect(error, { depth: Infinity, showHidden: true }), /BEGIN KEY|66, ?69|42 45/)
})

t.test('a user without the permissions is told which', async (t) => {
  const { url } = await start(t, ...userBob('+@read', '+@connection', '+info'))
  const store = await open(t, withLogin(url, 'bob', PASSWORD))
  await t.rejects(store.write('a', Buffer.from('1')), { code: 'STORE_DENIED', message: /grant it .*NOPERM/ })
})

t.test('a Redis that may lose what it was given is warned of', async (t) => {
  const warningsOf = async (...options: string[]): Promise<string[]> => {
    const { url } = await start(t, ...options)
    const { log, warnings } = memoryLog()
    const store = await openRedisStore(url, log)
    await store.close()
    return warnings().map((line) => line.msg.replace(/^Redis at \S+ /, ''))
  }
  const appendOnly = ['--appendonly', 'yes']
  t.same(await warningsOf(...appendOnly), [])
  t.same(await warningsOf(...appendOnly, '--maxmemory', '100mb', '--maxmemory-policy', 'noeviction'), [])
  t.match(await warningsOf('--appendonly', 'no'), [/^keeps no append-only file: set `appendonly yes`/])
  t.match(await warningsOf(...appendOnly, '--maxmemory', '100mb', '--maxmemory-policy', 'allkeys-lru'), [
    /^evicts keys when it is full: set `maxmemory-policy noeviction`/,
  ])
})

t.test('rediss:// speaks TLS to a Redis whose certificate is trusted, and to no other', async (t) => {
  const authority = await makeAuthority()
  const certificate = await makeCertificate({ names: ['localhost'], authority })
  const port = await freePort()
  const peer = await Peer.start(
    'redis-server',
    [
      '--port',
      '0',
      '--tls-port',
      String(port),
      '--tls-auth-clients',
      'no',
      '--save',
      '',
      '--tls-cert-file',
      'chain.pem',
      '--tls-key-file',
      'key.pem',
      '--tls-ca-cert-file',
      'root.pem',
    ],
    {
      ports: [port],
      files: {
        'chain.pem': certificate.chainPem,
        'key.pem': certificate.keyPem,
        'root.pem': authority.rootPem,
      },
    },
  ) // prettier-ignore
  t.teardown(() => peer.stop())
  const url = `rediss://localhost:${port}`
  await t.rejects(openRedisStore(url, silentLog()), { code: 'STORE_UNAVAILABLE', message: /certificate/ })
  const root = join(t.testdir({ 'root.pem': authority.rootPem }), 'root.pem')
  const holder = spawn(process.execPath, [join(import.meta.dirname, 'holder.ts'), url, 'a', '500'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, NODE_EXTRA_CA_CERTS: root },
  })
  t.teardown(() => holder.kill('SIGKILL'))
  t.equal(String((await once(holder.stdout, 'data'))[0]), 'held\n')
})
