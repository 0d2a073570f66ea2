/** `doctor` before real Pebbles, their DNS, and a running instance that they have issued for. */
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { type Diagnosis, type ExaminationOptions, examine } from '../../src/commands/doctor/examination.ts'
import type { Ports } from '../../src/commands/doctor/reach.ts'
import { createResolver, diagnose, doctor } from '../../src/commands/doctor.ts'
import { loadConfig } from '../../src/config/load.ts'
import { resolveCas } from '../../src/config/sites.ts'
import { silentLog } from '../../src/log.ts'
import { Server } from '../../src/server.ts'
import { openStore } from '../../src/store/open.ts'
import { Records } from '../../src/store/records.ts'
import { MINUTE, SystemClock } from '../../src/time.ts'
import { startDns } from '../peers/dns.ts'
import { startFaultProxyBefore } from '../peers/fault-proxy.ts'
import { startPebble } from '../peers/pebble.ts'
import { freePort } from '../peers/process.ts'
import { keepAlive } from '../support/alive.ts'
import { wordsOf } from './doctor/words.ts'

t.setTimeout(3 * MINUTE)
keepAlive(t)

const HOST = 'app.example.com'
const ports: Ports = { https: await freePort(), http: await freePort() }
const admin = await freePort()
const dns = await startDns()
const pebble = { dnsServer: dns.address, httpPort: ports.http, tlsPort: ports.https }
// The older one does not say what CAA calls it: two that say the same would be one company to doctor.
const [a, b] = await Promise.all([startPebble({ ...pebble, version: '2.4' }), startPebble(pebble)])
const fault = await startFaultProxyBefore(t, a)
t.teardown(() => Promise.all([a.stop(), b.stop(), dns.stop()]))

const folder = t.testdir({
  'a-endpoint.pem': fault.rootPem,
  'b-endpoint.pem': b.minicaPem,
  'a-root.pem': await a.root(),
  'b-root.pem': await b.root(),
})
const config = {
  listen: {
    https: [`127.0.0.1:${ports.https}`],
    http: [`127.0.0.1:${ports.http}`],
    admin: `127.0.0.1:${admin}`,
  },
  cas: {
    a: { directory: fault.directory, roots: 'a-endpoint.pem', trust: 'a-root.pem' },
    b: { directory: b.directory, roots: 'b-endpoint.pem', trust: 'b-root.pem', profile: 'default' },
  },
  sites: [{ hosts: [HOST], upstreams: ['http://127.0.0.1:9'] }],
}
const file = join(folder, 'proxy.config.json')
await writeFile(file, JSON.stringify(config))
const loaded = await loadConfig(file, {})
const lookup = createResolver(dns.address)

/** Pebbles say the same of what CAA calls them, or nothing, so the tests say it. */
async function examineAs(caaIdentities: readonly string[], asked = ports): Promise<Diagnosis> {
  const cas = [...resolveCas(loaded.config)].map(([name, ca]) => [name, { ...ca, caaIdentities }] as const)
  const records = new Records(await openStore(loaded.config.store, folder, silentLog()), silentLog())
  const ask = async (path: string) => (await fetch(`http://127.0.0.1:${admin}${path}`)).json()
  const running = (await ask('/api/certificates')) as ExaminationOptions['running']
  const proof = (await ask('/api/reach')) as ExaminationOptions['proof']
  try {
    const cloned = { config: loaded.config, cas: new Map(cas), records, lookup, clock: new SystemClock() }
    return await examine({ ...cloned, ports: asked, running, proof })
  } finally {
    await records.close()
  }
}

function aboutHost(diagnosis: Diagnosis): string[] {
  return diagnosis.hosts.flatMap(({ findings }) => findings.map(wordsOf))
}

function aboutCa(diagnosis: Diagnosis, name: string): string[] {
  return diagnosis.cas.filter(({ ca }) => ca === name).flatMap(({ findings }) => findings.map(wordsOf))
}

t.test('before the first start: no accounts, no certificates, nothing to reach', async (t) => {
  const diagnosis = await diagnose(loaded, lookup, ports)
  t.same(diagnosis.machine.map(wordsOf), [
    'ok store: can be read',
    'warn instance: none runs: whether the ports lead here was not tried | fix: start `holdfast serve`, and run doctor again',
    'ok clock: agrees with the CAs',
  ])
  t.same(aboutCa(diagnosis, 'a'), [
    `ok directory: answers at ${fault.directory}, and gives a nonce`,
    'ok account: none yet: the first order makes one',
  ])
  t.same(aboutHost(diagnosis), [
    'ok CAs: 2 can issue: a, b',
    'ok CAA (a): no records: every CA may issue',
    'ok CAA (b): no records: every CA may issue',
    'ok address: 127.0.0.1',
    'warn reach: not tried: no instance runs | fix: start `holdfast serve` and run doctor again',
    'warn live: there is no certificate yet | fix: start `holdfast serve`, then `holdfast status` tells how app.example.com fares',
  ])
  t.match(diagnosis.hosts, [{ host: HOST, usable: ['a', 'b'], dependsOnOne: false, failover: 'ready' }])
  t.notOk(
    fault.requests.some(({ method }) => method === 'POST'),
    'nothing was asked of the CA but what it tells anybody',
  )
})

t.test('while an instance runs', async (t) => {
  const server = await Server.create(loaded, silentLog())
  t.teardown(() => server.stop())
  await server.start()
  const isDone = async () => {
    const answer = await fetch(`http://127.0.0.1:${admin}/api/certificates`)
    const [host] = (await answer.json()) as { live?: object; standby?: object }[]
    return host?.live !== undefined && host.standby !== undefined
  }
  while (!(await isDone())) await delay(100)

  t.test('all is well', async (t) => {
    const diagnosis = await diagnose(loaded, lookup, ports)
    t.same(
      diagnosis.hosts.flatMap(({ findings }) => findings).filter(({ verdict }) => verdict !== 'ok'),
      [],
    )
    t.match(aboutCa(diagnosis, 'a')[1], /^ok account: valid at the CA: https:.*\/my-account\//)
    t.ok(aboutCa(diagnosis, 'b').includes('ok profile: default is on offer'))
    const words = aboutHost(diagnosis)
    t.ok(words.includes(`ok port ${ports.https}: shows a certificate of this instance, for tls-alpn-01`))
    t.ok(
      words.includes(`ok port ${ports.http}: gives the answer that this instance alone knows, for http-01`),
    )
    t.ok(words.some((each) => /^ok standby: is from another CA/.test(each)))
  })

  t.test('CAA that names one CA only', async (t) => {
    await dns.addCaa('example.com', [{ tag: 'issue', value: 'other.example' }])
    t.teardown(() => dns.clearCaa('example.com'))
    const diagnosis = await examineAs(['pebble.example'])
    t.same(aboutHost(diagnosis).slice(0, 2), [
      'fail CAs: none can issue | fix: mend what fails for a, b',
      'fail CAA (a): the CAA of example.com does not name a | fix: add `issue "pebble.example"` to the CAA of example.com',
    ])
    const cas = ['a', 'b'].map((ca) => ({ ca, standing: 'CAA forbids' }))
    t.match(diagnosis.hosts, [{ usable: [], dependsOnOne: true, cas, failover: 'no CA' }])
  })

  t.test('two names for one company', async (t) => {
    const diagnosis = await examineAs(['pebble.example'])
    t.equal(
      aboutHost(diagnosis)[0],
      'fail CAs: a, b are one company | fix: add a CA of another company to `tls.cas` for app.example.com',
    )
    t.match(diagnosis.hosts, [{ usable: ['a', 'b'], dependsOnOne: true, failover: 'one company' }])
  })

  t.test('CAA for our account', async (t) => {
    const [, account = ''] = aboutCa(await examineAs([]), 'a')
    const uri = /https:\S+$/.exec(account)?.[0]
    await dns.addCaa(HOST, [{ tag: 'issue', value: `pebble.example; accounturi=${uri}` }])
    t.teardown(() => dns.clearCaa(HOST))
    const [, ofA, ofB] = aboutHost(await examineAs(['pebble.example']))
    t.equal(ofA, 'ok CAA (a): the CAA of app.example.com permits a')
    t.match(ofB, /^fail CAA \(b\): .* is for another account at b \| fix: set its accounturi to https:/)
  })

  t.test('an address of another server', async (t) => {
    const other = createServer((_, response) => response.end('welcome')).listen(0, '127.0.0.1')
    await once(other, 'listening')
    t.teardown(() => other.close())
    const http = (other.address() as AddressInfo).port
    const https = Number(new URL(b.directory).port)
    const diagnosis = await examineAs([], { https, http })
    const words = aboutHost(diagnosis)
    t.match(
      words.find((each) => each.includes(`port ${https}`)),
      `fail port ${https}: tls-alpn-01 leads elsewhere: 127.0.0.1:${https} shows a certificate of another server`,
    )
    t.ok(
      words.includes(
        `fail port ${http}: http-01 leads elsewhere: 127.0.0.1:${http} does not know the challenge of this instance (it answers 200) | fix: let the DNS of ${HOST} name this instance only, or forward http-01 to it`,
      ),
    )
    const cas = ['a', 'b'].map((ca) => ({ ca, standing: 'cannot validate' }))
    t.match(diagnosis.hosts, [{ usable: [], dependsOnOne: true, cas, failover: 'no CA' }])
  })

  t.test('a port that does not answer here may yet answer the outside', async (t) => {
    const closed = await freePort()
    const diagnosis = await examineAs([], { ...ports, https: closed })
    t.match(
      aboutHost(diagnosis).find((each) => each.includes(`port ${closed}`)),
      `warn port ${closed}: no answer, as seen from here: 127.0.0.1:${closed}: connect ECONNREFUSED`,
    )
    t.match(diagnosis.hosts, [{ usable: ['a', 'b'], dependsOnOne: false }])
  })

  t.test('a host without an address', async (t) => {
    // pebble-challtestsrv has a default for every name, so the name server here knows none.
    const empty = { ...lookupOf(), resolve4: noData, resolve6: noData }
    const records = new Records(await openStore(loaded.config.store, folder, silentLog()), silentLog())
    t.teardown(() => records.close())
    const cas = resolveCas(loaded.config)
    const clock = new SystemClock()
    const diagnosis = await examine({
      config: loaded.config,
      cas,
      records,
      lookup: empty,
      ports,
      clock,
      running: [],
      proof: undefined,
    })
    t.ok(
      aboutHost(diagnosis).includes(
        `fail address: ${HOST} has no address in the DNS, so that no CA can check it | fix: add an A or AAAA record for ${HOST}`,
      ),
    )
    t.match(diagnosis.hosts, [{ usable: [], dependsOnOne: true }])
  })

  for (const kind of ['hang', '503', 'refuse'] as const) {
    t.test(`a CA that is out (${kind}): one is left, exit code 1, and nothing hangs`, async (t) => {
      await fault.setFault(kind)
      t.teardown(() => fault.setFault(undefined))
      const diagnosis = await diagnose(loaded, lookup, ports)
      t.match(aboutCa(diagnosis, 'a'), [
        /^fail directory: a: directory: .* \| fix: see whether 127\.0\.0\.1:\d+ is down/,
      ])
      t.equal(aboutHost(diagnosis)[0], 'fail CAs: b alone can issue | fix: mend what fails for a')
      t.match(diagnosis.hosts, [{ usable: ['b'], dependsOnOne: true }])
    })
  }

  t.test('the command', async (t) => {
    const run = async (...args: string[]) => {
      const written = t.capture(process.stdout, 'write', () => true)
      const code = await doctor(['--config', file, '--dns', dns.address, ...args], {})
      const out = written()
        .map(({ args: [text] }) => String(text))
        .join('')
      written.restore()
      return { code, out }
    }
    const json = await run('--json')
    t.equal(json.code, 0)
    const cas = ['a', 'b'].map((ca) => ({ ca, standing: 'ok' }))
    t.match(JSON.parse(json.out), { hosts: [{ host: HOST, dependsOnOne: false, cas, failover: 'ready' }] })
    await fault.setFault('503')
    t.teardown(() => fault.setFault(undefined))
    const table = await run()
    t.equal(table.code, 1)
    t.same(table.out.split('\n').slice(0, 3), [
      'HOST             a            b   FAILOVER',
      'app.example.com  unreachable  ok  one CA alone',
      '',
    ])
    t.match(table.out, /^ {2}fail {2}CAs +b alone can issue\n +fix: mend what fails for a$/m)
    t.match(table.out, /\n1 of 1 host depends on one CA alone\.\n$/)
  })
})

t.test('an account that the CA has lost', async (t) => {
  await a.restart()
  t.match(
    aboutCa(await diagnose(loaded, lookup, ports), 'a')[1],
    'warn account: a no longer knows it | fix: nothing: the next order makes a new one',
  )
})

t.test('words that do not fit', async (t) => {
  for (const server of ['localhost:53', '127.0.0.1', ':53'])
    await t.rejects(doctor(['--dns', server], {}), {
      name: 'UsageError',
      message: `--dns ${server}: write IP:PORT`,
    })
  await t.rejects(doctor(['--bogus'], {}), { code: 'ERR_PARSE_ARGS_UNKNOWN_OPTION' })
})

function lookupOf() {
  return {
    resolveCaa: (name: string) => lookup.resolveCaa(name),
    resolveCname: (name: string) => lookup.resolveCname(name),
  }
}

function noData(): Promise<never> {
  return Promise.reject(Object.assign(new Error('no data'), { code: 'ENODATA' }))
}
