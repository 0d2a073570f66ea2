import { type EventEmitter, once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { connect } from 'node:tls'
import t, { type Test } from 'tap'
import { Inventory } from '../../src/cert/inventory.ts'
import { settle, VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import type { Delivery } from '../../src/config/deliver.ts'
import { Deliveries } from '../../src/deliver/deliveries.ts'
import { DAY, HOUR, MINUTE, SECOND } from '../../src/time.ts'
import { freePort, Peer } from '../peers/process.ts'
import { makeAuthority, makeCertificate } from '../support/certificates.ts'
import { type MemoryLog, memoryLog } from '../support/log.ts'
import { openssl } from '../support/openssl.ts'

const HOST = 'app.example.com'
const NOW = Date.now()
const authority = await makeAuthority()
const [first, second] = await Promise.all([
  makeCertificate({ names: [HOST], authority, source: 'a' }),
  makeCertificate({ names: [HOST], authority, source: 'b' }),
])

interface World {
  readonly folder: string
  readonly clock: VirtualClock
  readonly log: MemoryLog
  readonly inventory: Inventory
  readonly deliveries: Deliveries
  /** Lets the next look take place, and waits for what it says at the end. */
  look(isWanted: (message: string) => boolean, afterMs?: number): Promise<void>
}

function delivery(
  folder: string,
  files: Partial<Record<Delivery['files'][number]['form'], string>>,
  more: Partial<Delivery> = {},
): Delivery {
  return {
    host: HOST,
    files: Object.entries(files).map(([form, name]) => ({
      form: form as Delivery['files'][number]['form'],
      path: join(folder, name),
    })),
    passphrase: undefined,
    owner: undefined,
    group: undefined,
    mode: undefined,
    command: undefined,
    commandLimitMs: 30 * SECOND,
    ...more,
  }
}

function start(t: Test, plan: (folder: string) => readonly Delivery[], folder = t.testdir({})): World {
  const clock = new VirtualClock(NOW)
  const inventory = new Inventory(clock)
  const log = memoryLog()
  const deliveries = new Deliveries({
    clock,
    random: () => 1,
    log: log.log,
    environment: process.env,
    find: (host) => inventory.find(host),
  })
  inventory.onChange(() => deliveries.look())
  deliveries.update(plan(folder))
  deliveries.start()
  t.teardown(() => deliveries.stop())
  const look: World['look'] = async (isWanted, afterMs = SECOND) => {
    const seen = log.lines.length
    await clock.advance(afterMs)
    await log.logged((line) => log.lines.indexOf(line) >= seen && isWanted(line.msg))
  }
  return { folder, clock, log, inventory, deliveries, look }
}

const delivered = (message: string): boolean => message.startsWith('delivered')
const ran = (message: string): boolean => message.startsWith('ran ')
const failed = (message: string): boolean => message.includes('tried again')

t.test('every form holds what openssl reads as that certificate and key', async (t) => {
  const { folder, inventory, look } = start(t, (folder) => [
    delivery(
      folder,
      {
        fullchain: 'full.pem',
        certificate: 'leaf.pem',
        chain: 'chain.pem',
        key: 'key.pem',
        combined: 'all.pem',
        pkcs12: 'all.p12',
      },
      { passphrase: 'secret words' },
    ),
  ])
  inventory.publish(HOST, 'live', first)
  await look(delivered)
  const publicKey = openssl(folder, 'x509', '-in', 'leaf.pem', '-noout', '-pubkey')
  for (const file of ['full.pem', 'all.pem'])
    t.equal(openssl(folder, 'x509', '-in', file, '-noout', '-pubkey'), publicKey, file)
  for (const file of ['key.pem', 'all.pem'])
    t.equal(openssl(folder, 'pkey', '-in', file, '-pubout'), publicKey, file)
  const all = openssl(folder, 'pkcs12', '-in', 'all.p12', '-passin', 'pass:secret words', '-nodes')
  writeFileSync(join(folder, 'from-p12.pem'), all)
  t.equal(openssl(folder, 'pkey', '-in', 'from-p12.pem', '-pubout'), publicKey)
  writeFileSync(join(folder, 'root.pem'), authority.rootPem)
  t.match(
    openssl(folder, 'verify', '-CAfile', 'root.pem', '-untrusted', 'chain.pem', 'leaf.pem'),
    'leaf.pem: OK',
  )
  t.equal(readFileSync(join(folder, 'full.pem'), 'utf8'), first.chainPem)
})

t.test(
  'what holds a key is for its owner alone, the rest for everybody, and nothing is left behind',
  async (t) => {
    const { folder, inventory, look } = start(t, (folder) => [
      delivery(folder, { fullchain: 'a/full.pem', key: 'a/key.pem', combined: 'a/all.pem' }),
    ])
    inventory.publish(HOST, 'live', first)
    await look(delivered)
    const mode = (name: string): string => (statSync(join(folder, 'a', name)).mode & 0o7777).toString(8)
    t.same(['full.pem', 'key.pem', 'all.pem'].map(mode), ['644', '600', '600'])
    t.same(readdirSync(join(folder, 'a')).sort(), ['all.pem', 'full.pem', 'key.pem'])
  },
)

t.test(
  'owner, group and mode are as asked',
  { skip: process.getuid?.() !== 0 && 'needs root' },
  async (t) => {
    const { folder, inventory, look } = start(t, (folder) => [
      delivery(folder, { key: 'key.pem' }, { owner: 'nobody', group: 7, mode: 0o640 }),
    ])
    inventory.publish(HOST, 'live', first)
    await look(delivered)
    const { uid, gid, mode } = statSync(join(folder, 'key.pem'))
    t.same([uid, gid, (mode & 0o7777).toString(8)], [65534, 7, '640'])
  },
)

t.test('a file that is right is left alone at a start; one with another mode is not', async (t) => {
  const plan = (folder: string) => [
    delivery(
      folder,
      { combined: 'all.pem', pkcs12: 'all.p12' },
      { passphrase: 'secret', command: ['touch', join(folder, 'told')] },
    ),
  ]
  const before = start(t, plan)
  before.inventory.publish(HOST, 'live', first)
  await before.look(ran)
  await before.deliveries.stop()
  const { folder } = before
  rmSync(join(folder, 'told'))
  const inode = (): number => statSync(join(folder, 'all.p12')).ino
  const kept = inode()

  const again = start(t, plan, folder)
  again.inventory.publish(HOST, 'live', first)
  await again.clock.advance(SECOND)
  await again.deliveries.stop()
  t.equal(inode(), kept)
  t.notOk(existsSync(join(folder, 'told')))
  t.same(again.log.lines, [])

  chmodSync(join(folder, 'all.pem'), 0o644)
  const third = start(t, plan, folder)
  third.inventory.publish(HOST, 'live', first)
  await third.look(ran)
  t.equal(statSync(join(folder, 'all.pem')).mode & 0o777, 0o600)
})

t.test('a standby that takes over from what has expired is delivered, though nobody says so', async (t) => {
  const short = await makeCertificate({ names: [HOST], authority, source: 'a', days: 1 })
  const { folder, clock, inventory, look } = start(t, (folder) => [delivery(folder, { combined: 'all.pem' })])
  inventory.publish(HOST, 'live', short)
  inventory.publish(HOST, 'standby', second)
  await look(delivered)
  t.ok(readFileSync(join(folder, 'all.pem'), 'utf8').startsWith(short.chainPem))
  // Jumped, so that the minutes of a whole day need not be played.
  clock.jump(DAY)
  await look(delivered, MINUTE)
  t.ok(readFileSync(join(folder, 'all.pem'), 'utf8').startsWith(second.chainPem))
})

t.test('what has expired replaces nothing', async (t) => {
  const old = await makeCertificate({ names: [HOST], days: 1, notBefore: NOW - 2 * DAY })
  const { folder, clock, inventory, deliveries } = start(t, (folder) => {
    writeFileSync(join(folder, 'all.pem'), 'from before')
    return [delivery(folder, { combined: 'all.pem' })]
  })
  inventory.publish(HOST, 'live', old)
  await clock.advance(MINUTE)
  await deliveries.stop()
  t.equal(readFileSync(join(folder, 'all.pem'), 'utf8'), 'from before')
})

t.test('one command for all that changes together, and it is told the hosts', async (t) => {
  const hosts = ['a.example.com', 'b.example.com', 'c.example.com']
  const { folder, inventory, look } = start(t, (folder) =>
    hosts.map((host) =>
      delivery(
        folder,
        { combined: `${host}.pem` },
        {
          host,
          command: ['sh', '-c', `echo "$HOLDFAST_HOSTS" >> ${folder}/told`],
        },
      ),
    ),
  )
  for (const host of hosts)
    inventory.publish(host, 'live', await makeCertificate({ names: [host], authority }))
  await look(ran)
  t.equal(readFileSync(join(folder, 'told'), 'utf8'), `${hosts.join(' ')}\n`)
})

t.test('a command gets none of the secrets in our environment', async (t) => {
  t.intercept(process, 'env', { value: { ...process.env, ZEROSSL_HMAC: 'hush' } })
  const { folder, inventory, look } = start(t, (folder) => [
    delivery(folder, { combined: 'all.pem' }, { command: ['sh', '-c', `env > ${folder}/env`] }),
  ])
  inventory.publish(HOST, 'live', first)
  await look(ran)
  const environment = readFileSync(join(folder, 'env'), 'utf8')
  t.match(environment, /^PATH=/m)
  t.notMatch(environment, 'hush')
})

t.test(
  'a command that fails is one warning with its reason, and is repeated until it succeeds',
  async (t) => {
    const { folder, clock, log, inventory, look } = start(t, (folder) => [
      delivery(
        folder,
        { combined: 'all.pem' },
        {
          command: ['sh', '-c', `test -e ${folder}/up || { echo it is not up >&2; exit 3; }`],
        },
      ),
    ])
    inventory.publish(HOST, 'live', first)
    await look(failed)
    await look(failed, MINUTE)
    t.match(log.warnings(), [
      { msg: /ended with 3: it is not up\. The new files are in place$/, hosts: [HOST] },
    ])
    t.equal(log.warnings().length, 1)
    writeFileSync(join(folder, 'up'), '')
    // After one minute, then after two; played in steps, for the command's limit is on this clock too.
    await clock.advance(MINUTE)
    await look(ran, MINUTE)
    const lines = log.lines.length
    await clock.advance(HOUR)
    t.equal(log.lines.length, lines, 'and is not run again')
  },
)

t.test('a command that was due at a crash runs at the next start', async (t) => {
  const plan = (command: string) => (folder: string) => [
    delivery(folder, { combined: 'all.pem' }, { command: [command, join(folder, 'told')] }),
  ]
  const before = start(t, plan('false'))
  before.inventory.publish(HOST, 'live', first)
  await before.look(failed)
  await before.deliveries.stop()
  const after = start(t, plan('touch'), before.folder)
  after.inventory.publish(HOST, 'live', first)
  await after.look(ran)
  t.same(readdirSync(before.folder).sort(), ['all.pem', 'told'])
})

t.test('a command that hangs is killed with what it started', async (t) => {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const port = (server.address() as { port: number }).port
  const program = `require('net').connect(${port}, '127.0.0.1'); setInterval(() => {}, 1000)`
  const { clock, inventory, log } = start(t, (folder) => [
    delivery(
      folder,
      { combined: 'all.pem' },
      {
        command: ['sh', '-c', `'${process.execPath}' -e "${program}"; true`],
      },
    ),
  ])
  const connected = once(server, 'connection')
  inventory.publish(HOST, 'live', first)
  await clock.advance(SECOND)
  const [socket] = (await connected) as [EventEmitter & { resume(): void }]
  const gone = once(socket, 'close')
  socket.on('error', () => {})
  socket.resume()
  await clock.advance(30 * SECOND)
  await log.logged(({ msg }) => /took longer than 30s/.test(msg))
  await gone
})

t.test('a file that cannot be written is one line, changes nothing beside it, and is repeated', async (t) => {
  const { folder, clock, log, inventory, look } = start(t, (folder) => {
    writeFileSync(join(folder, 'blocked'), 'a file where a folder should be')
    writeFileSync(join(folder, 'full.pem'), 'from before')
    return [delivery(folder, { fullchain: 'full.pem', key: 'blocked/key.pem' })]
  })
  inventory.publish(HOST, 'live', first)
  await look(failed)
  t.equal(readFileSync(join(folder, 'full.pem'), 'utf8'), 'from before')
  t.same(readdirSync(folder).sort(), ['blocked', 'full.pem'])
  await look(failed, MINUTE)
  const errors = log.lines.filter(({ level }) => level === 50)
  t.match(errors, [{ msg: /blocked\/key\.pem cannot be written: its folder is a file/, host: HOST }])
  t.equal(errors.length, 1)
  rmSync(join(folder, 'blocked'))
  mkdirSync(join(folder, 'blocked'))
  await clock.advance(MINUTE)
  await look(delivered, MINUTE)
  t.equal(readFileSync(join(folder, 'blocked/key.pem'), 'utf8'), first.keyPem)
})

t.test('an owner that does not exist is named', async (t) => {
  const { log, inventory, look } = start(t, (folder) => [
    delivery(folder, { combined: 'all.pem' }, { owner: 'no-such-user' }),
  ])
  inventory.publish(HOST, 'live', first)
  await look(failed)
  t.match(log.lines, [
    { msg: /there is no user "no-such-user" in \/etc\/passwd: create it, or give its number$/ },
  ])
})

t.test('a reader never sees half a file while certificates change', async (t) => {
  const { folder, inventory, look } = start(t, (folder) => [delivery(folder, { combined: 'all.pem' })])
  inventory.publish(HOST, 'live', first)
  await look(delivered)
  const whole = new Set([first, second].map(({ chainPem, keyPem }) => chainPem + keyPem))
  let reading = true
  const reader = (async () => {
    let odd = 0
    while (reading) {
      if (!whole.has(readFileSync(join(folder, 'all.pem'), 'utf8'))) odd++
      await settle()
    }
    return odd
  })()
  for (let turn = 0; turn < 20; turn++) {
    inventory.publish(HOST, 'live', turn % 2 === 0 ? second : first)
    await look(delivered)
  }
  reading = false
  t.equal(await reader, 0)
})

t.test('nginx serves each new certificate once it is delivered', async (t) => {
  const port = await freePort()
  const folder = t.testdir({ 'nginx.pid': '' })
  const plan = () => [
    delivery(
      folder,
      { fullchain: 'full.pem', key: 'key.pem' },
      {
        command: ['sh', '-c', `kill -HUP $(cat ${folder}/nginx.pid)`],
      },
    ),
  ]
  writeFileSync(join(folder, 'full.pem'), first.chainPem)
  writeFileSync(join(folder, 'key.pem'), first.keyPem)
  const configuration = `daemon off; pid ${folder}/nginx.pid; error_log stderr; events {}
    http { access_log off; server { listen 127.0.0.1:${port} ssl;
    ssl_certificate ${folder}/full.pem; ssl_certificate_key ${folder}/key.pem; } }`
  const files = { 'nginx.conf': configuration }
  const nginx = await Peer.start('nginx', ['-p', '.', '-c', 'nginx.conf', '-e', 'stderr'], {
    ports: [port],
    files,
  })
  const pid = Number(readFileSync(join(folder, 'nginx.pid'), 'utf8'))
  t.teardown(async () => {
    // Killed, as peers are, the master would leave its workers behind.
    process.kill(pid, 'SIGTERM')
    while (existsSync(`/proc/${pid}`)) await settle()
    await nginx.stop()
  })
  t.equal(await fingerprintAt(port), first.fingerprint)
  const { inventory, look } = start(t, plan, folder)
  inventory.publish(HOST, 'live', second)
  await look(ran)
  // How long it takes from here is nginx's own business.
  while ((await fingerprintAt(port)) !== second.fingerprint) await settle()
  t.pass('it serves the new one')
})

async function fingerprintAt(port: number): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', servername: HOST, rejectUnauthorized: false })
  await once(socket, 'secureConnect')
  const { fingerprint256 } = socket.getPeerCertificate()
  socket.destroy()
  return fingerprint256.replaceAll(':', '').toLowerCase()
}
