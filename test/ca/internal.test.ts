import { spawn } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { createServer } from 'node:tls'
import t, { type Test } from 'tap'
import { InternalIssuer, type InternalIssuerOptions } from '../../src/ca/internal.ts'
import { verifyChain } from '../../src/cert/verify.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { IssueError, StoreError } from '../../src/errors.ts'
import { openFileStore } from '../../src/store/fs.ts'
import { Records } from '../../src/store/records.ts'
import { DAY, HOUR, MINUTE, SystemClock } from '../../src/time.ts'
import { keepAlive } from '../support/alive.ts'
import { memoryLog } from '../support/log.ts'
import { issuerContract } from './contract.ts'

keepAlive(t)

type SharedRecords = InternalIssuerOptions['records']

const forever = new AbortController().signal
const REQUEST = { names: ['app.example.com'], keyType: 'ecdsa-p256', challenges: [] } as const

async function openRecords(t: Test, folder = t.testdir()): Promise<Records> {
  const { log } = memoryLog()
  const records = new Records(await openFileStore(folder, log), log)
  t.teardown(() => records.close())
  return records
}

function makeIssuer(records: SharedRecords, options: Partial<InternalIssuerOptions> = {}) {
  const log = memoryLog()
  const clock = new VirtualClock()
  const issuer = new InternalIssuer({
    id: 'internal',
    records,
    clock,
    lifetimeMs: 7 * DAY,
    log: log.log,
    ...options,
  })
  return { issuer, clock, log }
}

/** Records whose calls can be watched and made to fail. */
function wrap(records: SharedRecords, changes: Partial<SharedRecords>): SharedRecords {
  return {
    loadAuthority: (id) => records.loadAuthority(id),
    saveAuthority: (id, authority) => records.saveAuthority(id, authority),
    lock: (name, signal) => records.lock(name, signal),
    ...changes,
  }
}

async function issueErrorOf(work: Promise<unknown>): Promise<IssueError> {
  const error = await work.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  )
  if (error instanceof IssueError) return error
  throw error
}

t.test('the contract of issuers', async (t) => {
  await issuerContract(t, async (t) => {
    const { issuer } = makeIssuer(await openRecords(t), { clock: new SystemClock() })
    return { issuer, roots: [new X509Certificate(await issuer.rootPem())] }
  })
})

t.test('openssl accepts the chain in a handshake, by name and by address', async (t) => {
  const { issuer } = makeIssuer(await openRecords(t), { clock: new SystemClock() })
  const names = ['app.example.com', '*.apps.example.com', '127.0.0.1', '::1', 'printer']
  const { chainPem, keyPem } = await issuer.issue({ ...REQUEST, names }, forever)
  const server = createServer({ cert: chainPem, key: keyPem }, (socket) => socket.end())
  t.teardown(() => server.close())
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const folder = t.testdir()
  writeFileSync(join(folder, 'root.pem'), await issuer.rootPem())
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`
  for (const check of [
    ['-verify_hostname', 'app.example.com'],
    ['-verify_hostname', 'a.apps.example.com'],
    ['-verify_hostname', 'printer'],
    ['-verify_ip', '127.0.0.1'],
    ['-verify_ip', '::1'],
  ]) {
    const args = [
      's_client',
      '-connect',
      address,
      '-CAfile',
      'root.pem',
      '-x509_strict',
      '-verify_return_error',
    ]
    const client = spawn('openssl', [...args, ...check], { cwd: folder })
    client.stdin.end()
    t.match(await text(client.stdout), 'Verify return code: 0 (ok)', check.join(' '))
  }
})

t.test('keeps its root over a restart', async (t) => {
  const records = await openRecords(t)
  const rootPem = await makeIssuer(records).issuer.rootPem()
  const again = makeIssuer(records)
  t.equal(await again.issuer.rootPem(), rootPem)
  const { chain } = await again.issuer.issue(REQUEST, forever)
  t.ok(chain[1]?.verify(new X509Certificate(rootPem).publicKey))
  t.same(again.log.lines, [])
})

t.test('processes that share a store never make two roots', async (t) => {
  const folder = t.testdir()
  const script = join(import.meta.dirname, 'internal-peer.ts')
  const roots = await Promise.all(
    Array.from({ length: 4 }, async () => {
      const peer = spawn(process.execPath, [script, folder], { stdio: ['ignore', 'pipe', 'inherit'] })
      return text(peer.stdout)
    }),
  )
  t.match(roots[0], 'BEGIN CERTIFICATE')
  t.equal(new Set(roots).size, 1)
})

t.test('orders that come at once make one root', async (t) => {
  const records = await openRecords(t)
  let saves = 0
  const { issuer } = makeIssuer(
    wrap(records, {
      saveAuthority: (id, authority) => {
        saves++
        return records.saveAuthority(id, authority)
      },
    }),
  )
  const certificates = await Promise.all(Array.from({ length: 20 }, () => issuer.issue(REQUEST, forever)))
  t.equal(saves, 1)
  t.equal(new Set(certificates.map(({ chain }) => chain[1]?.fingerprint256)).size, 1)
})

t.test('a leaf lives for its lifetime, and an hour back for clocks that are slow', async (t) => {
  const { issuer, clock } = makeIssuer(await openRecords(t))
  const { notBefore, notAfter } = await issuer.issue(REQUEST, forever)
  t.equal(notBefore, clock.now() - HOUR)
  t.equal(notAfter, clock.now() + 7 * DAY)
})

t.test('a leaf never outlives its intermediate', async (t) => {
  const { issuer, clock } = makeIssuer(await openRecords(t), { lifetimeMs: 3650 * DAY })
  const { chain, notAfter } = await issuer.issue(REQUEST, forever)
  t.equal(notAfter, Date.parse(chain[1]?.validTo ?? ''))
  t.equal(notAfter, clock.now() + 365 * DAY)
})

t.test(
  'renews the intermediate well before it ends, beside the orders that go on, below the same root',
  async (t) => {
    const records = await openRecords(t)
    let saved = Promise.withResolvers<void>()
    const { issuer, clock } = makeIssuer(
      wrap(records, {
        saveAuthority: async (id, authority) => {
          await records.saveAuthority(id, authority)
          saved.resolve()
        },
      }),
    )
    const first = await issuer.issue(REQUEST, forever)
    clock.jump(240 * DAY)
    t.equal((await issuer.issue(REQUEST, forever)).chain[1]?.fingerprint256, first.chain[1]?.fingerprint256)
    clock.jump(10 * DAY)
    saved = Promise.withResolvers()
    const during = await issuer.issue(REQUEST, forever)
    t.equal(during.chain[1]?.fingerprint256, first.chain[1]?.fingerprint256)
    await saved.promise
    // The renewal has been saved; that it is used needs the turn in which it was.
    await issuer.issue(REQUEST, forever)
    const after = await issuer.issue(REQUEST, forever)
    t.not(after.chain[1]?.fingerprint256, first.chain[1]?.fingerprint256)
    const roots = [new X509Certificate(await issuer.rootPem())]
    for (const certificate of [during, after])
      t.doesNotThrow(() => verifyChain(certificate, { names: REQUEST.names, roots, now: clock.now() }))
  },
)

t.test('renews an intermediate that has expired before it signs', async (t) => {
  const records = await openRecords(t)
  const rootPem = await makeIssuer(records).issuer.rootPem()
  const { issuer, clock } = makeIssuer(records)
  clock.jump(400 * DAY)
  const certificate = await issuer.issue(REQUEST, forever)
  const roots = [new X509Certificate(rootPem)]
  t.doesNotThrow(() => verifyChain(certificate, { names: REQUEST.names, roots, now: clock.now() }))
})

t.test('goes on with the old intermediate when a renewal fails, and says so', async (t) => {
  const records = await openRecords(t)
  const { issuer, clock, log } = makeIssuer(
    wrap(records, {
      saveAuthority: (id, authority) =>
        clock.now() > Date.parse('2027-01-01')
          ? Promise.reject(new StoreError('STORE_DENIED', 'the disk is full'))
          : records.saveAuthority(id, authority),
    }),
  )
  const first = await issuer.issue(REQUEST, forever)
  clock.jump(250 * DAY)
  await issuer.issue(REQUEST, forever)
  const warned = async (count: number) => {
    while (log.warnings().length < count) await new Promise((resolve) => setImmediate(resolve))
  }
  await warned(1)
  t.match(log.warnings()[0], {
    ca: 'internal',
    err: { message: 'the disk is full' },
    msg: 'the intermediate of the internal CA could not be renewed; the old one goes on',
  })
  const after = await issuer.issue(REQUEST, forever)
  t.equal(after.chain[1]?.fingerprint256, first.chain[1]?.fingerprint256)
  await warned(2)
})

t.test('is good right away when the clock jumps back by a month', async (t) => {
  const { issuer, clock } = makeIssuer(await openRecords(t))
  const roots = [new X509Certificate(await issuer.rootPem())]
  clock.jump(-30 * DAY)
  const certificate = await issuer.issue(REQUEST, forever)
  t.doesNotThrow(() => verifyChain(certificate, { names: REQUEST.names, roots, now: clock.now() }))
})

t.test('refuses to sign below a root that is not valid yet', async (t) => {
  const records = await openRecords(t)
  await makeIssuer(records).issuer.rootPem()
  const { issuer, clock } = makeIssuer(records)
  clock.jump(-61 * DAY)
  t.match(await issueErrorOf(issuer.issue(REQUEST, forever)), {
    code: 'LOCAL_FAILURE',
    blame: 'local',
    message: 'internal: its root is not valid before 2026-04-20T00:00:00Z: is the clock right?',
  })
})

t.test('never replaces a root that has expired', async (t) => {
  const records = await openRecords(t)
  const { issuer, clock } = makeIssuer(records)
  const rootPem = await issuer.rootPem()
  clock.jump(3650 * DAY)
  const error = await issueErrorOf(issuer.issue(REQUEST, forever))
  t.match(error, { code: 'LOCAL_FAILURE', blame: 'local', retry: 'never' })
  t.match(
    error.message,
    /^internal: its root expired on 2036-06-16T00:00:00Z: .* remove authorities\/internal /,
  )
  t.equal((await records.loadAuthority('internal'))?.rootPem, rootPem)
})

t.test('signs until the last day of its root', async (t) => {
  const { issuer, clock } = makeIssuer(await openRecords(t))
  const roots = [new X509Certificate(await issuer.rootPem())]
  for (let days = 0; days < 3649; days += 100) {
    const certificate = await issuer.issue(REQUEST, forever)
    verifyChain(certificate, { names: REQUEST.names, roots, now: clock.now() })
    clock.jump(100 * DAY)
  }
  t.pass()
})

t.test('a store out of reach is a local failure, and over when it is back', async (t) => {
  const records = await openRecords(t)
  let isDown = true
  const { issuer } = makeIssuer(
    wrap(records, {
      loadAuthority: (id) =>
        isDown
          ? Promise.reject(new StoreError('STORE_UNAVAILABLE', 'connection refused'))
          : records.loadAuthority(id),
    }),
  )
  t.match(await issueErrorOf(issuer.issue(REQUEST, forever)), {
    code: 'LOCAL_FAILURE',
    blame: 'local',
    retry: 'later',
    message: 'internal: issuing for app.example.com failed: connection refused',
  })
  isDown = false
  await t.resolves(issuer.issue(REQUEST, forever))
})

t.test('saves nothing once its lease is lost', async (t) => {
  const records = await openRecords(t)
  const lost = AbortSignal.abort(new StoreError('LOCK_LOST', 'the lease was lost'))
  const { issuer } = makeIssuer(
    wrap(records, { lock: () => Promise.resolve({ lost, release: () => Promise.resolve() }) }),
  )
  t.match((await issueErrorOf(issuer.issue(REQUEST, forever))).message, 'the lease was lost')
  t.equal(await records.loadAuthority('internal'), undefined)
})

t.test(
  'waits for a store that hangs no longer than a minute, and each caller no longer than its signal',
  async (t) => {
    const records = await openRecords(t)
    const { issuer, clock } = makeIssuer(wrap(records, { lock: (_, signal) => rejectedBy(signal) }))
    const controller = new AbortController()
    const [abandoned, patient] = [issuer.issue(REQUEST, controller.signal), issuer.issue(REQUEST, forever)]
    controller.abort(new Error('stopped by the test'))
    t.match((await issueErrorOf(abandoned)).message, 'stopped by the test')
    const outcome = issueErrorOf(patient)
    await clock.advance(MINUTE)
    t.match((await outcome).message, 'took longer than 1m')
  },
)

function rejectedBy(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
}
