import { execFile } from 'node:child_process'
import { mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import type { Role } from '../../src/cert/inventory.ts'
import { StoreError } from '../../src/errors.ts'
import { silentLog } from '../../src/log.ts'
import { openFileStore } from '../../src/store/fs.ts'
import { type Account, Records } from '../../src/store/records.ts'
import type { Store } from '../../src/store/store.ts'
import { freePort } from '../peers/process.ts'
import { keepAlive } from '../support/alive.ts'
import { makeAuthority, makeCertificate } from '../support/certificates.ts'
import { type MemoryLog, memoryLog } from '../support/log.ts'

const run = promisify(execFile)

interface Setting extends MemoryLog {
  readonly folder: string
  readonly store: Store
  readonly records: Records
}

async function open(t: Test): Promise<Setting> {
  const folder = join(t.testdir(), 'data')
  const store = await openFileStore(folder, silentLog())
  const memory = memoryLog()
  return { ...memory, folder, store, records: new Records(store, memory.log) }
}

async function makeAccount(): Promise<Account> {
  const { keyPem } = await makeCertificate({ names: ['a.example.com'] })
  return { url: 'https://ca.example/account/1', keyPem, directory: 'https://ca.example/directory' }
}

t.test('accounts', async (t) => {
  t.test('one that was saved is loaded, with and without EAB, and is gone once removed', async (t) => {
    const { records } = await open(t)
    const account = await makeAccount()
    t.equal(await records.loadAccount('letsencrypt'), undefined)
    await records.saveAccount('letsencrypt', account)
    await records.saveAccount('zerossl', { ...account, eabKid: 'kid-1' })
    t.same(await records.loadAccount('letsencrypt'), account)
    t.same(await records.loadAccount('zerossl'), { ...account, eabKid: 'kid-1' })
    await records.removeAccount('letsencrypt')
    t.equal(await records.loadAccount('letsencrypt'), undefined)
  })
})

t.test('a secret is made once, for all who share the store, and again where it is damaged', async (t) => {
  keepAlive(t)
  const { log, lines, store, records } = await open(t)
  const other = new Records(store, log)
  const [one, two] = await Promise.all([records.secret('sticky'), other.secret('sticky')])
  t.equal(one?.length, 32)
  t.same(two, one)
  t.notSame(await records.secret('other'), one)
  await store.write('secrets/sticky', Buffer.from('{"octets":"AAAA"}'))
  t.equal((await records.secret('sticky')).length, 32)
  t.match(lines.at(-1)?.msg, /secrets\/sticky is damaged/)
})

t.test('authorities', async (t) => {
  t.test('one that was saved is loaded, and replaced as a whole', async (t) => {
    const { records } = await open(t)
    t.equal(await records.loadAuthority('internal'), undefined)
    for (const authority of [await makeAuthority(), await makeAuthority()]) {
      await records.saveAuthority('internal', authority)
      t.same(await records.loadAuthority('internal'), authority)
    }
  })

  t.test('its root is a file for curl --cacert, laid anew where it is gone or old', async (t) => {
    const { records, folder } = await open(t)
    const authority = await makeAuthority()
    await records.saveAuthority('internal', authority)
    const path = join(folder, 'authorities/internal/root.pem')
    t.equal(await readFile(path, 'utf8'), authority.rootPem)
    const { stdout } = await run('openssl', ['verify', '-CAfile', path, path])
    t.match(stdout, /OK/)
    await writeFile(path, 'the root before')
    await records.loadAuthority('internal')
    t.equal(await readFile(path, 'utf8'), authority.rootPem)
  })
})

t.test('certificates', async (t) => {
  t.test('every kind of host comes back as it was, with its role and source', async (t) => {
    const { records, folder } = await open(t)
    const cases: [string, Role, string][] = [
      ['app.example.com', 'live', 'app.example.com/live.pem'],
      ['app.example.com', 'standby', 'app.example.com/standby.pem'],
      ['*.example.com', 'interim', '+.example.com/interim.pem'],
      ['192.0.2.1', 'live', '192.0.2.1/live.pem'],
      ['2001:db8::1', 'live', '2001~db8~~1/live.pem'],
      [
        `${'a'.repeat(61)}.`.repeat(4).concat('a.com'),
        'live',
        `${'a'.repeat(61)}.`.repeat(4).concat('a.com/live.pem'),
      ],
    ]
    const expected = new Map<string, string>()
    for (const [index, [host, role, path]] of cases.entries()) {
      const certificate = await makeCertificate({
        names: [host],
        source: `ca-${index}`,
        account: `https://ca.example/acct/${index}`,
        provedBy: 'tls-alpn-01',
      })
      await records.saveCertificate(host, role, certificate)
      expected.set(`${host} ${role}`, certificate.fingerprint)
      t.ok((await stat(join(folder, 'certificates', path))).isFile(), path)
      const loaded = await records.loadCertificate(host, role)
      const { account, chainPem, keyPem, provedBy, source } = certificate
      t.match(loaded, { account, chainPem, keyPem, provedBy, source }, host)
    }
    const all = await records.loadCertificates()
    t.same(new Map(all.map((each) => [`${each.host} ${each.role}`, each.certificate.fingerprint])), expected)
  })

  t.test('one is replaced by saving, and gone once removed; its neighbour stays', async (t) => {
    const { records, store } = await open(t)
    const [first, second] = await Promise.all([1, 2].map(() => makeCertificate({ names: ['a.example'] })))
    await records.saveCertificate('a.example', 'live', first!)
    await records.saveCertificate('a.example', 'standby', first!)
    await records.saveCertificate('a.example', 'live', second!)
    t.equal((await records.loadCertificate('a.example', 'live'))?.fingerprint, second!.fingerprint)
    t.same(await store.list(''), ['certificates/a.example/live.pem', 'certificates/a.example/standby.pem'])
    await records.removeCertificate('a.example', 'live')
    t.equal(await records.loadCertificate('a.example', 'live'), undefined)
    t.same(await store.list(''), ['certificates/a.example/standby.pem'])
  })

  t.test('its file is what openssl and nginx read', async (t) => {
    const { records, folder } = await open(t)
    const authority = await makeAuthority()
    const certificate = await makeCertificate({ names: ['a.example'], authority })
    await records.saveCertificate('a.example', 'live', certificate)
    const path = join(folder, 'certificates/a.example/live.pem')
    const { stdout } = await run('openssl', ['x509', '-in', path, '-noout', '-ext', 'subjectAltName'])
    t.match(stdout, /DNS:a\.example/)
    await run('openssl', ['pkey', '-in', path, '-noout'])
    const config = `events {} http { server { listen 127.0.0.1:${await freePort()} ssl; ssl_certificate ${path}; ssl_certificate_key ${path}; } }`
    const configPath = join(dirname(folder), 'nginx.conf')
    await writeFile(configPath, `pid ${folder}/pid; error_log stderr; ${config}`)
    await t.resolves(
      run('nginx', ['-t', '-c', configPath], { env: { PATH: `${process.env.PATH}:/usr/sbin` } }),
    )
  })

  t.test('one that somebody laid there by hand is loaded, from source `file`', async (t) => {
    const { records, folder } = await open(t)
    const { chainPem, keyPem, fingerprint } = await makeCertificate({ names: ['a.example'] })
    await mkdir(join(folder, 'certificates/a.example'), { recursive: true })
    await writeFile(join(folder, 'certificates/a.example/live.pem'), keyPem + chainPem)
    t.match(await records.loadCertificates(), [
      { host: 'a.example', role: 'live', certificate: { source: 'file', fingerprint } },
    ])
  })

  t.test('files that are no records are passed over', async (t) => {
    const { records, folder, lines } = await open(t)
    for (const path of [
      'a.example/notes.txt',
      'a.example/live.pem.bak',
      'a.example/more/live.pem',
      '%zz/live.pem',
      'live.pem',
    ]) {
      await mkdir(join(folder, 'certificates', dirname(path)), { recursive: true })
      await writeFile(join(folder, 'certificates', path), 'mine')
    }
    t.same(await records.loadCertificates(), [])
    t.same(lines, [])
  })
})

t.test('staged certificates', async (t) => {
  const host = 'a.example'
  const stageKey = 'certificates/a.example/live.staged.pem'

  /** A store that fails like a full disk once a certificate is staged. */
  function failAfterStage(store: Store): Store {
    const write = async (key: string, value: Buffer): Promise<void> => {
      if (key.endsWith('/live.pem')) throw new StoreError('STORE_UNAVAILABLE', 'the disk is full')
      await store.write(key, value)
    }
    return { ...bind(store), write }
  }

  t.test('a crash between stage and live loses nothing: loading finishes it', async (t) => {
    const { records, store, log } = await open(t)
    const [before, after] = await Promise.all([1, 2].map(() => makeCertificate({ names: [host] })))
    await records.saveCertificate(host, 'live', before!)
    for (const load of ['one', 'all']) {
      await t.rejects(new Records(failAfterStage(store), log).saveCertificate(host, 'live', after!), {
        code: 'STORE_UNAVAILABLE',
      })
      t.ok((await store.list('')).includes(stageKey))
      const loaded =
        load === 'one'
          ? await records.loadCertificate(host, 'live')
          : (await records.loadCertificates())[0]?.certificate
      t.equal(loaded?.fingerprint, after!.fingerprint)
      t.same(await store.list(''), ['certificates/a.example/live.pem'])
      t.equal((await records.loadCertificate(host, 'live'))?.fingerprint, after!.fingerprint)
    }
  })

  t.test('a first certificate that was only staged is loaded too', async (t) => {
    const { records, store, log } = await open(t)
    const certificate = await makeCertificate({ names: [host] })
    await t.rejects(new Records(failAfterStage(store), log).saveCertificate(host, 'live', certificate))
    t.match(await records.loadCertificates(), [
      { host, role: 'live', certificate: { fingerprint: certificate.fingerprint } },
    ])
  })

  t.test('a damaged stage is set aside, and the live one stays', async (t) => {
    const { records, store, warnings } = await open(t)
    const certificate = await makeCertificate({ names: [host] })
    await records.saveCertificate(host, 'live', certificate)
    await store.write(stageKey, Buffer.from('-----BEGIN'))
    t.match(await records.loadCertificates(), [{ certificate: { fingerprint: certificate.fingerprint } }])
    t.match(warnings(), [{ key: stageKey }])
  })

  t.test('removing takes the stage with it', async (t) => {
    const { records, store, log } = await open(t)
    const certificate = await makeCertificate({ names: [host] })
    await t.rejects(new Records(failAfterStage(store), log).saveCertificate(host, 'live', certificate))
    await records.removeCertificate(host, 'live')
    t.same(await store.list(''), [])
  })
})

t.test('states', async (t) => {
  t.test('documents come back as they were, one by one and all of a kind', async (t) => {
    const { records } = await open(t)
    const documents = new Map<string, unknown>([
      ['*.example.com', { failures: 3, due: 1.5e12, reason: 'é "quoted"' }],
      ['2001:db8::1', [1, null, true]],
      ['../../etc/passwd', null],
      ['.', 'text'],
    ])
    for (const [id, value] of documents) await records.saveState('jobs', id, value)
    await records.saveState('health', 'letsencrypt', { open: true })
    for (const [id, value] of documents) t.same(await records.loadState('jobs', id), value, id)
    t.same(await records.loadStates('jobs'), documents)
    t.same(await records.loadStates('health'), new Map([['letsencrypt', { open: true }]]))
    await records.removeState('health', 'letsencrypt')
    t.equal(await records.loadState('health', 'letsencrypt'), undefined)
    t.same(await records.loadStates('health'), new Map())
  })
})

t.test('damage', async (t) => {
  const account = await makeAccount()
  const [authority, otherAuthority] = [await makeAuthority(), await makeAuthority()]
  const certificate = await makeCertificate({ names: ['a.example'] })
  const other = await makeCertificate({ names: ['a.example'] })
  const pem = certificate.chainPem + certificate.keyPem
  const json = (value: unknown): string => JSON.stringify(value)
  const loadCertificate = (records: Records) => records.loadCertificate('a.example', 'live')
  const loadAccount = (records: Records) => records.loadAccount('ca')
  const loadAuthority = (records: Records) => records.loadAuthority('ca')
  const loadState = (records: Records) => records.loadState('jobs', 'a.example')

  const certificateKey = 'certificates/a.example/live.pem'
  const accountKey = 'accounts/ca'
  const authorityKey = 'authorities/ca/authority.json'
  const cases: [string, string, string | Buffer, (records: Records) => Promise<unknown>][] = [
    ['an empty certificate file', certificateKey, '', loadCertificate],
    [
      'a certificate cut in its chain',
      certificateKey,
      pem.slice(0, certificate.chainPem.length / 2),
      loadCertificate,
    ],
    ['a certificate cut before its key', certificateKey, certificate.chainPem, loadCertificate],
    ['a certificate cut in its key', certificateKey, pem.slice(0, -40), loadCertificate],
    ['a certificate with a flipped bit', certificateKey, pem.replace(/^(.{400})./s, '$1!'), loadCertificate],
    [
      'a certificate with the key of another',
      certificateKey,
      certificate.chainPem + other.keyPem,
      loadCertificate,
    ],
    ['a certificate file of zeros', certificateKey, Buffer.alloc(4096), loadCertificate],
    ['an account that is cut', accountKey, json(account).slice(0, -2), loadAccount],
    ['an account without a key', accountKey, json({ ...account, keyPem: undefined }), loadAccount],
    [
      'an account with a key that is none',
      accountKey,
      json({ ...account, keyPem: 'PRIVATE KEY' }),
      loadAccount,
    ],
    ['an account without a URL', accountKey, json({ ...account, url: 7 }), loadAccount],
    ['an account that is a list', accountKey, '[]', loadAccount],
    ['an account that is null', accountKey, 'null', loadAccount],
    [
      'an authority without its intermediate',
      authorityKey,
      json({ ...authority, intermediatePem: '' }),
      loadAuthority,
    ],
    [
      'an authority with the root key of another',
      authorityKey,
      json({ ...authority, rootKeyPem: otherAuthority.rootKeyPem }),
      loadAuthority,
    ],
    [
      'an authority with the intermediate key of another',
      authorityKey,
      json({ ...authority, intermediateKeyPem: otherAuthority.intermediateKeyPem }),
      loadAuthority,
    ],
    [
      'an authority below the root of another',
      authorityKey,
      json({ ...authority, rootPem: otherAuthority.rootPem, rootKeyPem: otherAuthority.rootKeyPem }),
      loadAuthority,
    ],
    [
      'an authority with a root that is none',
      authorityKey,
      json({ ...authority, rootPem: 'PEM' }),
      loadAuthority,
    ],
    ['a job that is not JSON', 'state/jobs/a.example', '{"due":', loadState],
    ['a job that is empty', 'state/jobs/a.example', '', loadState],
  ]
  for (const [what, key, content, load] of cases) {
    t.test(`${what} is set aside whole, told once, and absent`, async (t) => {
      const { records, store, warnings, lines } = await open(t)
      const bytes = Buffer.from(content as string)
      await store.write(key, bytes)
      t.equal(await load(records), undefined)
      t.equal(await load(records), undefined)
      const [copy = '', ...more] = await store.list('')
      t.match(copy, new RegExp(`^damaged/[0-9a-f]{8}/${key.replaceAll('.', '\\.')}$`))
      t.same(more, [])
      t.same(await store.read(copy), bytes)
      t.match(warnings(), [{ key, msg: `${key} is damaged: set aside as ${copy}` }])
      t.equal(warnings().length, 1)
      t.notMatch(JSON.stringify(lines), /MIG|BEGIN|END|PRIVATE KEY"/, 'no key is told')
    })
  }

  t.test('the other records are loaded all the same', async (t) => {
    const { records, store, warnings } = await open(t)
    await records.saveCertificate('b.example', 'live', other)
    await store.write(certificateKey, Buffer.from('damage'))
    await records.saveState('jobs', 'b.example', { due: 1 })
    await store.write('state/jobs/a.example', Buffer.from('damage'))
    t.match(await records.loadCertificates(), [{ host: 'b.example' }])
    t.same(await records.loadStates('jobs'), new Map([['b.example', { due: 1 }]]))
    t.equal(warnings().length, 2)
  })

  t.test('two damages of one key are both kept', async (t) => {
    const { records, store } = await open(t)
    for (const content of ['first', 'second']) {
      await store.write(accountKey, Buffer.from(content))
      await records.loadAccount('ca')
    }
    t.equal((await store.list('damaged/')).length, 2)
  })

  t.test('a record that was mended while it was set aside stays', async (t) => {
    const { store, log } = await open(t)
    await store.write(accountKey, Buffer.from('damage'))
    const write = async (key: string, value: Buffer): Promise<void> => {
      await store.write(key, value)
      if (key.startsWith('damaged/')) await store.write(accountKey, Buffer.from(json(account)))
    }
    const records = new Records({ ...bind(store), write }, log)
    t.equal(await records.loadAccount('ca'), undefined)
    t.same(await records.loadAccount('ca'), account)
  })

  t.test('a record that cannot be set aside is told, stays, and holds up nothing', async (t) => {
    const { store, log, warnings } = await open(t)
    await store.write(accountKey, Buffer.from('damage'))
    const write = async (): Promise<void> => {
      throw new StoreError('STORE_UNAVAILABLE', 'the disk is full')
    }
    const records = new Records({ ...bind(store), write }, log)
    t.equal(await records.loadAccount('ca'), undefined)
    t.match(warnings(), [{ key: accountKey, err: { message: 'the disk is full' } }])
    t.same(await store.list(''), [accountKey])
  })

  t.test('a record that may not be read is told and left out', async (t) => {
    const { records, folder, warnings } = await open(t)
    await records.saveCertificate('b.example', 'live', other)
    await symlink('/etc', join(folder, 'certificates/a.example'))
    await mkdir(join(folder, 'certificates/c.example'))
    await symlink(
      join(folder, 'certificates/b.example/live.pem'),
      join(folder, 'certificates/c.example/live.pem'),
    )
    t.match(await records.loadCertificates(), [{ host: 'b.example' }])
    t.equal(await records.loadCertificate('c.example', 'live'), undefined)
    t.match(warnings(), [{ key: 'certificates/c.example/live.pem', err: { code: 'STORE_DENIED' } }])
    await t.rejects(records.loadReadableCertificate('c.example', 'live'), { code: 'STORE_DENIED' })
  })

  t.test('an account or an authority that may not be read is never taken as absent', async (t) => {
    const { records, folder } = await open(t)
    await mkdir(join(folder, 'accounts'))
    await symlink('/etc/hostname', join(folder, 'accounts/ca'))
    await symlink('/etc', join(folder, 'authorities'))
    const denied = { name: 'StoreError', code: 'STORE_DENIED' }
    await t.rejects(records.loadAccount('ca'), denied)
    await t.rejects(records.loadAuthority('internal'), denied)
  })

  t.test('a store that fails as a whole rejects', async (t) => {
    const { store, log } = await open(t)
    const failure = new StoreError('STORE_UNAVAILABLE', 'down')
    const read = (): Promise<never> => Promise.reject(failure)
    const records = new Records({ ...bind(store), read, list: read }, log)
    await t.rejects(records.loadAccount('ca'), failure)
    await t.rejects(records.loadCertificates(), failure)
    await t.rejects(records.loadStates('jobs'), failure)
  })
})

t.test('many certificates are read side by side, but never without bound', async (t) => {
  const { records, store, log } = await open(t)
  const certificate = await makeCertificate({ names: ['a.example'] })
  const saving = Array.from({ length: 100 }, (_, index) =>
    records.saveCertificate(`host-${index}.example`, 'live', certificate),
  )
  await Promise.all(saving)
  let inFlight = 0
  let most = 0
  const read = async (key: string): Promise<Buffer | undefined> => {
    most = Math.max(most, ++inFlight)
    try {
      return await store.read(key)
    } finally {
      inFlight--
    }
  }
  const stored = await new Records({ ...bind(store), read }, log).loadCertificates()
  t.equal(stored.length, 100)
  t.equal(most, 64)
})

t.test('a lock is had by one Records at a time', async (t) => {
  keepAlive(t)
  const { records, store, log } = await open(t)
  const lease = await records.lock('*.example.com', AbortSignal.timeout(10_000))
  const other = new Records(store, log)
  await t.rejects(other.lock('*.example.com', AbortSignal.timeout(10)), { name: 'TimeoutError' })
  await lease.release()
})

/** A store as an object, to put some of its methods in the place of others. */
function bind(store: Store): Store {
  return {
    read: (key) => store.read(key),
    write: (key, value) => store.write(key, value),
    remove: (key) => store.remove(key),
    list: (prefix) => store.list(prefix),
    lock: (name, ttlMs, signal) => store.lock(name, ttlMs, signal),
    close: () => store.close(),
  }
}
