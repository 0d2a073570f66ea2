/** Certificates of clients: who is let in, who is refused and how it learns that, and what resumption may not do. */
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import type { ConnectionOptions } from 'node:tls'
import t, { type Test } from 'tap'
import type { ClientPolicy } from '../../src/cert/client-policy.ts'
import { TlsAlpn01Solver } from '../../src/challenge/tls-alpn-01.ts'
import { DEFAULT_BALANCING } from '../../src/config/balancing.ts'
import { DAY, HOUR, SystemClock } from '../../src/time.ts'
import type { ListenerPolicy } from '../../src/tls/listener.ts'
import { makeClient, makeClientPolicy } from '../support/clients.ts'
import { Revoker, toPem } from '../support/revoker.ts'
import { dial, openssl, type Rig, type RigOptions, startRig, textOf } from './rig.ts'

const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const
const GUARDED = 'guarded.example.com'
const OPEN = 'open.example.com'

const ours = await Revoker.create('Client CA')
const theirs = await Revoker.create('Another CA')
const ca = ours.authority.certificatePem
const client = await makeClient({ issuer: ours.authority })
const stranger = await makeClient({ issuer: theirs.authority })

/** Beside a site that asks nobody. */
async function startGuarded(t: Test, clientPolicy: ClientPolicy, options: RigOptions = {}): Promise<Rig> {
  const rig = await startRig(t, { ...options, policy: { sites: sitesOf(clientPolicy), ...options.policy } })
  await rig.publish(GUARDED)
  await rig.publish(OPEN)
  return rig
}

function sitesOf(clientPolicy: ClientPolicy): ListenerPolicy['sites'] {
  return new Map([
    [GUARDED, { clientPolicy }],
    [OPEN, {}],
  ])
}

/** `served`, or the code of the error that it meets in the handshake or, with TLS 1.3, after it; `closed` without any. */
async function fateOf(rig: Rig, options: ConnectionOptions = {}): Promise<string> {
  try {
    const socket = await dial(rig, { servername: GUARDED, ...options })
    return (await textOf(socket)) === '' ? 'closed' : 'served'
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code)
  }
}

/** For a client that resumes what it is given here. */
async function sessionOf(rig: Rig, options: ConnectionOptions): Promise<Buffer> {
  const socket = await dial(rig, { servername: GUARDED, ...options })
  let session = socket.getSession()
  socket.on('session', (ticket) => {
    session = ticket
  })
  await textOf(socket)
  if (session === undefined) throw new Error('no session')
  return session
}

t.test('required: a client with a certificate of the CA is served, and known', async (t) => {
  const policy = makeClientPolicy({ ca })
  const rig = await startGuarded(t, policy)
  for (const maxVersion of VERSIONS) {
    t.equal(await fateOf(rig, { ...client, maxVersion }), 'served')
    const told = rig.handedOn.at(-1)?.client
    t.equal(told?.policy, policy.id)
    t.equal(told?.certificate?.subject, 'CN=client')
  }
})

t.test('required: a client without a certificate gets the alert for it', async (t) => {
  const rig = await startGuarded(t, makeClientPolicy({ ca }))
  t.equal(await fateOf(rig, { maxVersion: 'TLSv1.3' }), 'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED')
  // TLS 1.2 has none of its own.
  t.match(await fateOf(rig, { maxVersion: 'TLSv1.2' }), /ALERT_HANDSHAKE_FAILURE$/)
  t.strictSame(rig.handedOn, [])
})

t.test('optional: a client without a certificate is served, and told to be unknown', async (t) => {
  const policy = makeClientPolicy({ ca, mode: 'optional' })
  const rig = await startGuarded(t, policy)
  for (const maxVersion of VERSIONS) {
    t.equal(await fateOf(rig, { maxVersion }), 'served')
    t.strictSame(rig.handedOn.at(-1)?.client, { policy: policy.id, certificate: undefined })
    t.equal(await fateOf(rig, { ...client, maxVersion }), 'served')
    t.equal(rig.handedOn.at(-1)?.client?.certificate?.subject, 'CN=client')
  }
})

t.test('a certificate that does not verify is refused in both modes, and the log says why', async (t) => {
  const revoked = await makeClient({ issuer: ours.authority, subject: '/CN=revoked' })
  const revoker = await Revoker.create('Revoking CA')
  const gone = await makeClient({ issuer: revoker.authority, subject: '/CN=gone' })
  revoker.record(serialOf(gone.cert))
  const cases = [
    { why: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', given: stranger, policy: { ca } },
    {
      why: 'CERT_HAS_EXPIRED',
      given: await makeClient({ issuer: ours.authority, days: -1 }),
      policy: { ca },
    },
    {
      why: 'INVALID_PURPOSE',
      given: await makeClient({ issuer: ours.authority, extensions: 'extendedKeyUsage=serverAuth' }),
      policy: { ca },
    },
    {
      why: 'CERT_REVOKED',
      given: gone,
      policy: { ca: revoker.authority.certificatePem, crl: revoker.crl() },
    },
  ]
  for (const mode of ['required', 'optional'] as const)
    for (const { why, given, policy } of cases) {
      const rig = await startGuarded(t, makeClientPolicy({ ...policy, mode }))
      for (const maxVersion of VERSIONS) {
        const fate = await fateOf(rig, { ...given, maxVersion })
        t.match(fate, /^(closed|ECONNRESET)$/, `${mode} ${why} ${maxVersion}`)
        const line = await rig.log.logged(({ reason }) => reason === why)
        t.match(line, { client: '127.0.0.1', msg: `a client certificate was refused: ${why}` })
      }
      t.strictSame(rig.handedOn, [])
    }
  t.equal(await fateOf(await startGuarded(t, makeClientPolicy({ ca })), revoked), 'served', 'without a list')
})

t.test('the certificate that names a client is verified whatever name, or none, it asks for', async (t) => {
  const clientPolicy = makeClientPolicy({ ca })
  const policy = { defaultHost: GUARDED, sites: sitesOf(clientPolicy) }
  const rig = await startGuarded(t, clientPolicy, { policy })
  for (const maxVersion of VERSIONS)
    for (const servername of ['', 'unknown.example.com']) {
      const options = { servername, maxVersion, checkServerIdentity: () => undefined }
      t.not(await fateOf(rig, options), 'served')
      t.not(await fateOf(rig, { ...options, ...stranger }), 'served')
      t.equal(await fateOf(rig, { ...options, ...client }), 'served')
    }
  t.equal(rig.handedOn.length, 4)
})

t.test('sites that ask nobody are served as before, beside those that do', async (t) => {
  const rig = await startGuarded(t, makeClientPolicy({ ca }))
  for (const maxVersion of VERSIONS)
    for (const given of [{}, client, stranger]) {
      t.equal(await fateOf(rig, { servername: OPEN, maxVersion, ...given }), 'served')
      t.notOk('client' in (rig.handedOn.at(-1) ?? {}))
    }
})

t.test('the client is told which CAs it may show a certificate of', async (t) => {
  const rig = await startGuarded(t, makeClientPolicy({ ca }))
  for (const version of ['-tls1_2', '-tls1_3']) {
    t.match(
      await openssl(rig, '-servername', GUARDED, version),
      /Acceptable client certificate CA names\nCN = Client CA/,
    )
    t.match(await openssl(rig, '-servername', OPEN, version), /No client certificate CA names sent/)
  }
})

t.test('a session is resumed with the certificate of its first handshake', async (t) => {
  const rig = await startGuarded(t, makeClientPolicy({ ca }))
  for (const maxVersion of VERSIONS) {
    const session = await sessionOf(rig, { ...client, maxVersion })
    const socket = await dial(rig, { servername: GUARDED, session, maxVersion })
    t.equal(socket.isSessionReused(), true)
    t.not(await textOf(socket), '')
    t.equal(rig.handedOn.at(-1)?.client?.certificate?.subject, 'CN=client')
  }
})

t.test('a session that was made without a certificate is not resumed where one is required', async (t) => {
  for (const maxVersion of VERSIONS) {
    const rig = await startGuarded(t, makeClientPolicy({ ca, mode: 'optional' }))
    const sessions = [
      await sessionOf(rig, { servername: OPEN, maxVersion }),
      await sessionOf(rig, { maxVersion }),
    ]
    await rig.listener.update({ ...rig.policy, sites: sitesOf(makeClientPolicy({ ca })) })
    for (const session of sessions) t.match(await fateOf(rig, { session, maxVersion }), /ALERT/)
  }
})

t.test('a session is not resumed after the certificate was revoked, or its CA was taken away', async (t) => {
  const revoker = await Revoker.create()
  const known = await makeClient({ issuer: revoker.authority })
  const options = { ca: revoker.authority.certificatePem, crl: revoker.crl() }
  revoker.record(serialOf(known.cert))
  for (const stricter of [{ ...options, crl: revoker.crl() }, { ca }])
    for (const maxVersion of VERSIONS) {
      const rig = await startGuarded(t, makeClientPolicy(options))
      const session = await sessionOf(rig, { ...known, maxVersion })
      await rig.listener.update({ ...rig.policy, sites: sitesOf(makeClientPolicy(stricter)) })
      t.not(await fateOf(rig, { ...known, session, maxVersion }), 'served')
      t.equal(rig.handedOn.length, 1)
    }
})

t.test('a refused client is not let in by the session that it got', async (t) => {
  for (const mode of ['required', 'optional'] as const) {
    const rig = await startGuarded(t, makeClientPolicy({ ca, mode }))
    const session = await sessionOf(rig, { ...stranger, maxVersion: 'TLSv1.3' })
    const fate = await fateOf(rig, { session, maxVersion: 'TLSv1.3' })
    if (mode === 'required') t.not(fate, 'served')
    for (const connection of rig.handedOn) t.equal(connection.client?.certificate, undefined)
  }
})

t.test('a session does not outlive the certificate', async (t) => {
  const clock = new LaterClock()
  const rig = await startGuarded(t, makeClientPolicy({ ca }), { clock })
  for (const maxVersion of VERSIONS) {
    clock.laterMs = 0
    const session = await sessionOf(rig, { ...client, maxVersion })
    t.equal(await fateOf(rig, { session, maxVersion }), 'served')
    clock.laterMs = 31 * DAY
    t.not(await fateOf(rig, { session, maxVersion }), 'served')
  }
})

t.test('the same policy resumes whatever process made the session', async (t) => {
  const ticketKeys = Buffer.alloc(48, 7)
  const first = await startGuarded(t, makeClientPolicy({ ca }), { ticketKeys })
  const second = await startGuarded(t, makeClientPolicy({ ca }), { ticketKeys })
  for (const maxVersion of VERSIONS) {
    const session = await sessionOf(first, { ...client, maxVersion })
    const socket = await dial(second, { servername: GUARDED, session, maxVersion, rejectUnauthorized: false })
    t.equal(socket.isSessionReused(), true)
  }
})

t.test('lists that ran out refuse everybody, and the log says so once', async (t) => {
  const now = Date.now()
  const [crl, shortLived] = [
    ours.crl({ thisUpdate: now - 2 * DAY, nextUpdate: now - DAY }),
    ours.crl({ thisUpdate: now - 2 * DAY, nextUpdate: now + HOUR }),
  ]
  const clock = new LaterClock()
  for (const [list, laterMs] of [
    [crl, 0],
    [shortLived, 2 * HOUR],
  ] as const) {
    const rig = await startGuarded(t, makeClientPolicy({ ca, crl: list, mode: 'optional' }), { clock })
    clock.laterMs = laterMs
    for (const maxVersion of VERSIONS) {
      t.not(await fateOf(rig, { ...client, maxVersion }), 'served')
      t.equal(await fateOf(rig, { maxVersion }), 'served', 'nobody is as before')
    }
    t.equal(
      rig.log.lines.filter(({ msg }) => /clients\.crl: a revocation list in it ran out/.test(msg)).length,
      1,
    )
  }
})

t.test('a CA, which has no certificate for us, still validates by tls-alpn-01', async (t) => {
  const solver = new TlsAlpn01Solver(new SystemClock())
  await solver.present({
    type: solver.type,
    name: GUARDED,
    token: 'token',
    keyAuthorization: 'token.thumbprint',
  })
  const challenge: RigOptions['challenge'] = (name, keyType) => solver.find(name, keyType)
  const rig = await startGuarded(t, makeClientPolicy({ ca }), { challenge })
  for (const maxVersion of VERSIONS) {
    const asCa = { servername: GUARDED, ALPNProtocols: ['acme-tls/1'], rejectUnauthorized: false, maxVersion }
    const socket = await dial(rig, asCa)
    t.match(socket.getPeerX509Certificate(), { subject: 'CN=ACME challenge' })
    socket.resume()
    await once(socket, 'end')
    t.match(await fateOf(rig, { maxVersion, ALPNProtocols: ['acme-tls/1', 'http/1.1'] }), /ALERT/)
  }
  t.strictSame(rig.handedOn, [])
})

t.test('a client that has to begin again, with another key share, is asked as well', async (t) => {
  const rig = await startGuarded(t, makeClientPolicy({ ca }))
  const ecdhCurve = 'X448:P-256'
  t.equal(await fateOf(rig, { ...client, ecdhCurve }), 'served')
  t.match(await fateOf(rig, { ecdhCurve }), /CERTIFICATE_REQUIRED/)
})

t.test('connections of a tcp site are asked too', async (t) => {
  const stream = {
    mode: 'tcp',
    alpn: [],
    upstreams: [],
    balancing: DEFAULT_BALANCING,
    proxyProtocol: undefined,
  } as const
  const sites = new Map([[GUARDED, { stream, clientPolicy: makeClientPolicy({ ca }) }]])
  const rig = await startRig(t, { policy: { sites } })
  await rig.publish(GUARDED)
  t.match(await fateOf(rig), /ALERT/)
  t.equal(await fateOf(rig, client), 'served')
  t.equal(rig.handedOn.at(-1)?.stream?.mode, 'tcp')
  t.match(await fateOf(rig, { ALPNProtocols: ['acme-tls/1'] }), /ALERT/)
  t.equal(rig.handedOn.length, 1)
})

t.test('a policy is the same for as long as its files say the same', (t) => {
  const crl = ours.crl()
  const one = makeClientPolicy({ ca, crl })
  t.equal(makeClientPolicy({ ca: `# a comment\n${ca}`, crl }).id, one.id)
  const others = [
    makeClientPolicy({ ca }),
    makeClientPolicy({ ca, crl, mode: 'optional' }),
    makeClientPolicy({ ca: ca + theirs.authority.certificatePem }),
  ]
  t.equal(new Set([one, ...others].map(({ id }) => id)).size, 4)
  t.end()
})

t.test('files that cannot be used are explained', async (t) => {
  const pem = (label: string, content: string) =>
    `-----BEGIN ${label}-----\n${content}\n-----END ${label}-----\n`
  const faults: [Parameters<typeof makeClientPolicy>[0], RegExp][] = [
    [{ ca: 'nothing' }, /clients\.pem: holds no PEM certificate/],
    [{ ca: pem('CERTIFICATE', 'MAAA') }, /clients\.pem: certificate 1 is damaged/],
    [{ ca: client.cert }, /clients\.pem: holds no root, only intermediates/],
    [{ ca, crl: 'nothing' }, /clients\.crl: holds no revocation list that can be read/],
    [{ ca, crl: pem('X509 CRL', 'MAAA') }, /clients\.crl: holds no revocation list that can be read/],
    [{ ca, crl: theirs.crl() }, /clients\.crl: holds no list by "Client CA"/],
  ]
  for (const [options, message] of faults) t.throws(() => makeClientPolicy(options), { message })
})

t.test('lists of several authorities count, one after another in a PEM', async (t) => {
  const crl = [ours, theirs].map((each) => toPem(each.crl())).join('')
  const rig = await startGuarded(t, makeClientPolicy({ ca: ca + theirs.authority.certificatePem, crl }))
  t.equal(await fateOf(rig, client), 'served')
  t.equal(await fateOf(rig, stranger), 'served')
})

class LaterClock extends SystemClock {
  laterMs = 0

  override now(): number {
    return super.now() + this.laterMs
  }
}

function serialOf(pem: string): string {
  return new X509Certificate(pem).serialNumber
}
