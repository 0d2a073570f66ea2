import { createPrivateKey, generateKeyPairSync, type X509Certificate } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { chmodSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Certificate } from '../../src/cert/certificate.ts'
import { CertificateFiles, type CertificateSource, loadCertificateFile } from '../../src/cert/files.ts'
import { writePkcs12 } from '../../src/cert/pkcs12.ts'
import type { Log } from '../../src/log.ts'
import { SystemClock } from '../../src/time.ts'
import { makeAuthority, makeCertificate } from '../support/certificates.ts'
import { memoryLog } from '../support/log.ts'
import { openFolder, unprivileged } from '../support/unprivileged.ts'

const authority = await makeAuthority()
const [first, second, other, rsa] = await Promise.all([
  makeCertificate({ names: ['app.example.com'], authority }),
  makeCertificate({ names: ['app.example.com'], authority }),
  makeCertificate({ names: ['other.example.com'] }),
  makeCertificate({ names: ['app.example.com'], keyType: 'rsa-2048' }),
])
const [leafPem, intermediatePem] = first.chain.map((each) => each.toString()) as [string, string]
const encryptedKeyPem = encrypt(first)
const NOW = Date.now()

function encrypt(certificate: Certificate, type: 'pkcs8' | 'pkcs1' = 'pkcs8'): string {
  const options = { type, format: 'pem', cipher: 'aes-256-cbc', passphrase: 'secret' } as const
  return createPrivateKey(certificate.keyPem).export(options).toString()
}

type Files = Readonly<Record<string, string | Buffer>>

function folderOf(t: Test, files: Files): string {
  const folder = t.testdir({})
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content)
  return folder
}

/** @param source with file names of the folder */
function load(folder: string, source: CertificateSource, now = NOW): Promise<Certificate> {
  const { certificate, key, passphrase } = source
  return loadCertificateFile(
    { certificate: join(folder, certificate), key: key && join(folder, key), passphrase },
    now,
  )
}

const ACCEPTED: readonly [what: string, files: Files, source: CertificateSource][] = [
  [
    'a chain and its key',
    { 'c.pem': first.chainPem, 'k.pem': first.keyPem },
    { certificate: 'c.pem', key: 'k.pem' },
  ],
  ['one file, the key last', { 'c.pem': first.chainPem + first.keyPem }, { certificate: 'c.pem' }],
  ['one file, the key first', { 'c.pem': first.keyPem + first.chainPem }, { certificate: 'c.pem' }],
  [
    'a chain in the wrong order, with its root and a stranger between',
    {
      'c.pem': intermediatePem + other.chainPem + leafPem,
      'k.pem': first.keyPem,
    },
    { certificate: 'c.pem', key: 'k.pem' },
  ],
  [
    'Windows line ends, comments, and EC parameters',
    {
      'c.pem': `# made by us\r\n${first.chainPem.replaceAll('\n', '\r\n')}`,
      'k.pem': `-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n${createPrivateKey(
        first.keyPem,
      ).export({ type: 'sec1', format: 'pem' })}`,
    },
    { certificate: 'c.pem', key: 'k.pem' },
  ],
  [
    'an encrypted key',
    { 'c.pem': first.chainPem, 'k.pem': encryptedKeyPem },
    { certificate: 'c.pem', key: 'k.pem', passphrase: 'secret' },
  ],
  [
    'a passphrase where none is needed',
    { 'c.pem': first.chainPem + first.keyPem },
    { certificate: 'c.pem', passphrase: 'secret' },
  ],
  [
    'PKCS#12, whatever its name',
    { 'c.pem': writePkcs12(first, 'secret') },
    { certificate: 'c.pem', passphrase: 'secret' },
  ],
]

for (const [what, files, source] of ACCEPTED) {
  t.test(`loads ${what}`, async (t) => {
    const loaded = await load(folderOf(t, files), source)
    t.equal(loaded.chainPem, first.chainPem)
    t.equal(loaded.keyPem, first.keyPem)
    t.equal(loaded.source, 'file')
  })
}

t.test('loads an encrypted key of the old PEM kind', async (t) => {
  const folder = folderOf(t, { 'c.pem': rsa.chainPem + encrypt(rsa, 'pkcs1') })
  t.equal((await load(folder, { certificate: 'c.pem', passphrase: 'secret' })).keyPem, rsa.keyPem)
})

t.test('keeps the root where the file holds it', async (t) => {
  const folder = folderOf(t, { 'c.pem': authority.rootPem + first.chainPem + first.keyPem })
  const { chain } = await load(folder, { certificate: 'c.pem' })
  t.same(chain.map(String), [leafPem, intermediatePem, authority.rootPem])
})

const ed25519 = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
const spoil = (pem: string) => pem.replace(/\n.{20}/, '\nAAAAAAAAAAAAAAAAAAAA')
/** The point of its ECDSA key is moved off the curve. */
function withoutPoint({ raw }: X509Certificate): string {
  const der = Buffer.from(raw)
  der.fill(0, der.indexOf('03420004', 'hex') + 4, der.indexOf('03420004', 'hex') + 68)
  return `-----BEGIN CERTIFICATE-----\n${der.toString('base64')}\n-----END CERTIFICATE-----\n`
}

const pair = { certificate: 'c.pem', key: 'k.pem' }
const single = { certificate: 'c.pem' }

/** `DIR` in a message stands for the folder. */
const REFUSED: readonly [
  what: string,
  files: Files,
  source: CertificateSource,
  code: string,
  message: string,
  now?: number,
][] = [
  ['no file', {}, single, 'CERTIFICATE_UNREADABLE', 'DIR/c.pem: does not exist'],
  ['no key file', { 'c.pem': leafPem }, pair, 'CERTIFICATE_UNREADABLE', 'DIR/k.pem: does not exist'],
  ['a folder', {}, { certificate: '.' }, 'CERTIFICATE_UNREADABLE', 'DIR: is a folder, not a file'],
  ['an empty file', { 'c.pem': '' }, single, 'CERTIFICATE_UNREADABLE', 'DIR/c.pem: is empty'],
  [
    'an empty key file',
    { 'c.pem': leafPem, 'k.pem': '' },
    pair,
    'CERTIFICATE_UNREADABLE',
    'DIR/k.pem: is empty',
  ],
  [
    'text',
    { 'c.pem': 'hello' },
    single,
    'CERTIFICATE_UNREADABLE',
    'DIR/c.pem: is neither PEM nor PKCS#12, or is cut short',
  ],
  [
    'a certificate alone',
    { 'c.pem': leafPem },
    single,
    'CERTIFICATE_UNREADABLE',
    'DIR/c.pem: holds no PEM private key: give its file as `key`',
  ],
  [
    'a certificate for a key',
    { 'c.pem': leafPem, 'k.pem': leafPem },
    pair,
    'CERTIFICATE_UNREADABLE',
    'DIR/k.pem: holds no PEM private key',
  ],
  [
    'a key cut short',
    { 'c.pem': leafPem, 'k.pem': first.keyPem.slice(0, 100) },
    pair,
    'CERTIFICATE_UNREADABLE',
    'DIR/k.pem: holds no PEM private key',
  ],
  [
    'a key alone',
    { 'c.pem': first.keyPem },
    single,
    'CERTIFICATE_UNREADABLE',
    'DIR/c.pem: holds no PEM certificate',
  ],
  [
    'a certificate cut short',
    { 'c.pem': leafPem.slice(0, 300), 'k.pem': first.keyPem },
    pair,
    'CERTIFICATE_UNREADABLE',
    'DIR/c.pem: holds no PEM certificate',
  ],
  [
    'a certificate request',
    { 'c.pem': leafPem.replaceAll('CERTIFICATE', 'CERTIFICATE REQUEST'), 'k.pem': first.keyPem },
    pair,
    'CERTIFICATE_UNREADABLE',
    'DIR/c.pem: holds no PEM certificate',
  ],
  [
    'a damaged leaf',
    { 'c.pem': spoil(leafPem) + intermediatePem, 'k.pem': first.keyPem },
    pair,
    'CERTIFICATE_UNREADABLE',
    'DIR/c.pem: certificate 1 is damaged',
  ],
  [
    'a damaged intermediate',
    { 'c.pem': leafPem + spoil(intermediatePem), 'k.pem': first.keyPem },
    pair,
    'CERTIFICATE_UNREADABLE',
    'DIR/c.pem: certificate 2 is damaged',
  ],
  [
    'an intermediate whose key is nonsense',
    { 'c.pem': leafPem + withoutPoint(first.chain[1] as X509Certificate), 'k.pem': first.keyPem },
    pair,
    'CERTIFICATE_UNREADABLE',
    'DIR/c.pem: the certificate of Test Intermediate is damaged',
  ],
  [
    'a damaged key',
    { 'c.pem': leafPem, 'k.pem': spoil(first.keyPem) },
    pair,
    'CERTIFICATE_UNREADABLE',
    'DIR/k.pem: the private key is damaged',
  ],
  [
    'an encrypted key without passphrase',
    { 'c.pem': leafPem, 'k.pem': encryptedKeyPem },
    pair,
    'CERTIFICATE_UNREADABLE',
    'DIR/k.pem: the private key is encrypted: give its `passphrase`',
  ],
  [
    'an encrypted key with the wrong passphrase',
    { 'c.pem': leafPem, 'k.pem': encryptedKeyPem },
    { ...pair, passphrase: 'wrong' },
    'CERTIFICATE_UNREADABLE',
    'DIR/k.pem: the passphrase of the private key is wrong',
  ],
  [
    'the key of another certificate',
    { 'c.pem': first.chainPem, 'k.pem': second.keyPem },
    pair,
    'KEY_MISMATCH',
    'DIR/c.pem: no certificate in it belongs to the private key in DIR/k.pem',
  ],
  [
    'the key of another certificate in the same file',
    { 'c.pem': first.chainPem + second.keyPem },
    single,
    'KEY_MISMATCH',
    'DIR/c.pem: no certificate in it belongs to the private key in the same file',
  ],
  [
    'a key of another kind',
    { 'c.pem': first.chainPem, 'k.pem': ed25519 },
    pair,
    'KEY_MISMATCH',
    'DIR/c.pem: no certificate in it belongs to the private key in DIR/k.pem',
  ],
  [
    'a CA’s own certificate',
    { 'c.pem': authority.rootPem + authority.rootKeyPem },
    single,
    'CERTIFICATE_UNREADABLE',
    'DIR/c.pem: the certificate names no host (it has no subjectAltName)',
  ],
  [
    'a certificate that has expired',
    { 'c.pem': first.chainPem + first.keyPem },
    single,
    'CERTIFICATE_EXPIRED',
    `DIR/c.pem: expired on ${isoTime(first.notAfter)}`,
    first.notAfter,
  ],
  [
    'a certificate that is not valid yet',
    { 'c.pem': first.chainPem + first.keyPem },
    single,
    'CHAIN_INVALID',
    `DIR/c.pem: is not valid before ${isoTime(first.notBefore)}; is the clock right?`,
    first.notBefore - 1,
  ],
  [
    'a certificate in DER',
    { 'c.pem': first.leaf.raw },
    single,
    'CERTIFICATE_UNREADABLE',
    'DIR/c.pem: is a certificate in DER without a key: convert it to PEM',
  ],
  [
    'PKCS#12 with a key beside it',
    { 'c.pem': writePkcs12(first, 'secret'), 'k.pem': first.keyPem },
    { ...pair, passphrase: 'secret' },
    'CERTIFICATE_UNREADABLE',
    'DIR/c.pem: is not PEM; PKCS#12 brings its own key: leave `key` out',
  ],
  [
    'PKCS#12 without passphrase',
    { 'c.pem': writePkcs12(first, 'secret') },
    single,
    'CERTIFICATE_UNREADABLE',
    'DIR/c.pem: is encrypted: give its `passphrase`',
  ],
  [
    'PKCS#12 cut short',
    { 'c.pem': writePkcs12(first, 'secret').subarray(0, 800) },
    { ...single, passphrase: 'secret' },
    'CERTIFICATE_UNREADABLE',
    'DIR/c.pem: is neither PEM nor PKCS#12, or is cut short',
  ],
]

function isoTime(time: number): string {
  return new Date(time).toISOString().replace('.000', '')
}

for (const [what, files, source, code, message, now] of REFUSED) {
  t.test(`refuses ${what}`, async (t) => {
    const folder = folderOf(t, files)
    await t.rejects(load(folder, source, now), { code, message: message.replaceAll('DIR', folder) })
  })
}

t.test('refuses a file that this user may not read', async (t) => {
  const folder = openFolder(t, { 'c.pem': first.chainPem + first.keyPem })
  chmodSync(join(folder, 'c.pem'), 0)
  const message = `${folder}/c.pem: may not be read by this user: check its owner and mode`
  await unprivileged(() => t.rejects(load(folder, single), { code: 'CERTIFICATE_UNREADABLE', message }))
})

t.test('no error holds a key or a passphrase', async (t) => {
  const folder = folderOf(t, { 'c.pem': leafPem, 'k.pem': encryptedKeyPem })
  const error = await load(folder, { ...pair, passphrase: 'wrong-secret' }).catch((caught: Error) => caught)
  t.notMatch(JSON.stringify([String(error), error instanceof Error && String(error.cause)]), 'wrong-secret')
})

/** Loads and watches files of a folder; ends with the test. */
async function watchFiles(t: Test, folder: string, sources: readonly CertificateSource[], log: Log) {
  const events = new EventEmitter()
  const published: [CertificateSource, Certificate][] = []
  const absolute = sources.map(({ certificate, key }) => ({
    certificate: join(folder, certificate),
    key: key && join(folder, key),
  }))
  const files = new CertificateFiles(absolute, new SystemClock(), log, (source, certificate) => {
    published.push([source, certificate])
    events.emit('published')
  })
  // Watches and timers of the program never keep a process alive.
  const keepAlive = setInterval(() => {}, 60_000)
  t.teardown(() => {
    clearInterval(keepAlive)
    files.stop()
  })
  await files.load()
  files.start()
  return { files, published, publishing: () => once(events, 'published') }
}

/** A log that keeps its lines, and a wait for the next error. */
function watchedLog() {
  const events = new EventEmitter()
  const { log, lines } = memoryLog()
  const error = log.error.bind(log)
  log.error = ((...line: Parameters<typeof error>) => {
    error(...line)
    events.emit('error-line')
  }) as typeof log.error
  const errors = () => lines.filter(({ level }) => level === 50).map(({ msg }) => msg)
  return { log, errors, complaining: () => once(events, 'error-line') }
}

const bundle = (certificate: Certificate) => certificate.chainPem + certificate.keyPem
const replace = (file: string, content: string) => {
  writeFileSync(`${file}.new`, content)
  renameSync(`${file}.new`, file)
}

t.test('publishes every source at the start', async (t) => {
  const folder = folderOf(t, { 'a.pem': bundle(first), 'b.pem': bundle(other) })
  const sources = [{ certificate: 'a.pem' }, { certificate: 'b.pem' }]
  const { published } = await watchFiles(t, folder, sources, memoryLog().log)
  t.same(published.map(([source, certificate]) => [source.certificate, certificate.fingerprint]).sort(), [
    [join(folder, 'a.pem'), first.fingerprint],
    [join(folder, 'b.pem'), other.fingerprint],
  ])
})

t.test('tells every source that cannot be used at the start, and publishes the rest', async (t) => {
  const folder = folderOf(t, { 'a.pem': bundle(first), 'b.pem': leafPem })
  const published: Certificate[] = []
  const sources = ['a.pem', 'b.pem', 'c.pem'].map((name) => ({ certificate: join(folder, name) }))
  const files = new CertificateFiles(sources, new SystemClock(), memoryLog().log, (_, certificate) =>
    published.push(certificate),
  )
  await t.rejects(files.load(), {
    code: 'CONFIG_INVALID',
    problems: [
      { path: '', message: `${folder}/b.pem: holds no PEM private key: give its file as \`key\`` },
      { path: '', message: `${folder}/c.pem: does not exist` },
    ],
  })
  t.same(
    published.map(({ fingerprint }) => fingerprint),
    [first.fingerprint],
  )
})

t.test('publishes a certificate that is replaced by a rename, and only that', async (t) => {
  const folder = folderOf(t, { 'a.pem': bundle(first), 'b.pem': bundle(other) })
  const sources = [{ certificate: 'a.pem' }, { certificate: 'b.pem' }]
  const { published, publishing } = await watchFiles(t, folder, sources, memoryLog().log)
  const renewed = publishing()
  replace(join(folder, 'a.pem'), bundle(second))
  await renewed
  t.equal(published.length, 3)
  t.equal(published[2]?.[1].fingerprint, second.fingerprint)
})

t.test('publishes the same leaf again when its chain is mended', async (t) => {
  const folder = folderOf(t, { 'a.pem': leafPem + first.keyPem })
  const { published, publishing } = await watchFiles(t, folder, [{ certificate: 'a.pem' }], memoryLog().log)
  const mended = publishing()
  replace(join(folder, 'a.pem'), bundle(first))
  await mended
  t.same(
    published.map(([, certificate]) => certificate.chainPem),
    [leafPem, first.chainPem],
  )
})

t.test('publishes a certificate and a key that are replaced one after the other', async (t) => {
  const folder = folderOf(t, { 'c.pem': first.chainPem, 'k.pem': first.keyPem })
  const { published, publishing } = await watchFiles(t, folder, [pair], memoryLog().log)
  const renewed = publishing()
  replace(join(folder, 'c.pem'), second.chainPem)
  replace(join(folder, 'k.pem'), second.keyPem)
  await renewed
  t.equal(published.at(-1)?.[1].fingerprint, second.fingerprint)
})

t.test('publishes a certificate that is swapped behind a symlink, as Kubernetes does', async (t) => {
  const folder = t.testdir({ '..1': { 'c.pem': bundle(first) }, '..2': { 'c.pem': bundle(second) } })
  symlinkSync('..1', join(folder, '..data'))
  symlinkSync('..data/c.pem', join(folder, 'c.pem'))
  const { published, publishing } = await watchFiles(t, folder, [single], memoryLog().log)
  const renewed = publishing()
  symlinkSync('..2', join(folder, '..new'))
  renameSync(join(folder, '..new'), join(folder, '..data'))
  await renewed
  t.equal(published.at(-1)?.[1].fingerprint, second.fingerprint)
})

t.test('publishes what changed between load and start', async (t) => {
  const folder = folderOf(t, { 'c.pem': bundle(first) })
  const published = new EventEmitter()
  const source = { certificate: join(folder, 'c.pem') }
  const files = new CertificateFiles([source], new SystemClock(), memoryLog().log, (_, certificate) =>
    published.emit('published', certificate.fingerprint),
  )
  const keepAlive = setInterval(() => {}, 60_000)
  t.teardown(() => {
    clearInterval(keepAlive)
    files.stop()
  })
  await files.load()
  replace(source.certificate, bundle(second))
  const renewed = once(published, 'published')
  files.start()
  t.same(await renewed, [second.fingerprint])
})

t.test('keeps the old certificate and says so once when the new file is bad, until it is good', async (t) => {
  const folder = folderOf(t, { 'c.pem': bundle(first), 'b.pem': bundle(other) })
  const { log, errors, complaining } = watchedLog()
  const sources = [single, { certificate: 'b.pem' }]
  const { published, publishing } = await watchFiles(t, folder, sources, log)
  const complaint = complaining()
  replace(join(folder, 'c.pem'), leafPem)
  await complaint
  t.equal(published.length, 2)
  // A change of another file looks at this one again, and has nothing new to say of it.
  const elsewhere = publishing()
  replace(join(folder, 'b.pem'), bundle(rsa))
  await elsewhere
  const message = `${folder}/c.pem: holds no PEM private key: give its file as \`key\`; the certificate from before stays in use`
  t.same(errors(), [message])
  const mended = publishing()
  replace(join(folder, 'c.pem'), bundle(second))
  await mended
  t.equal(published.at(-1)?.[1].fingerprint, second.fingerprint)
  t.same(errors(), [message])
})

t.test('publishes a certificate that was gone for a while', async (t) => {
  const folder = folderOf(t, { 'c.pem': bundle(first) })
  const { published, publishing } = await watchFiles(t, folder, [single], memoryLog().log)
  rmSync(join(folder, 'c.pem'))
  const renewed = publishing()
  writeFileSync(join(folder, 'c.pem'), bundle(second))
  await renewed
  t.equal(published.length, 2)
})

t.test('publishes nothing once stopped', async (t) => {
  const folder = folderOf(t, { 'a.pem': bundle(first) })
  const stopped = await watchFiles(t, folder, [{ certificate: 'a.pem' }], memoryLog().log)
  const witness = await watchFiles(t, folder, [{ certificate: 'a.pem' }], memoryLog().log)
  stopped.files.stop()
  const renewed = witness.publishing()
  replace(join(folder, 'a.pem'), bundle(second))
  await renewed
  t.equal(stopped.published.length, 1)
})
