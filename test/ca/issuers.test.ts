import { X509Certificate } from 'node:crypto'
import t from 'tap'
import { clockOf, Issuers } from '../../src/ca/issuers.ts'
import { IMPORTED } from '../../src/cert/certificate.ts'
import { resolveCa } from '../../src/config/cas.ts'
import { silentLog } from '../../src/log.ts'
import { openFileStore } from '../../src/store/fs.ts'
import { Records } from '../../src/store/records.ts'
import { DAY, MINUTE, SECOND, SystemClock } from '../../src/time.ts'
import { makeAuthority, makeCertificate } from '../support/certificates.ts'
import { issueErrorOf, requestFor, startWorld } from './acme-world.ts'

t.test('CAs of one host are one witness of the time, since they go by one clock', async (t) => {
  const world = await startWorld(t)
  const pebble = await world.startPebble()
  const witnesses: [string, string, number][] = []
  const issuers = new Issuers({
    records: await world.records(),
    clock: new SystemClock(),
    log: silentLog(),
    solvers: [],
    onTime: (...told) => witnesses.push(told),
  })
  const roots = `${t.testdir({ 'roots.pem': pebble.minicaPem })}/roots.pem`
  for (const name of ['one', 'two']) {
    const ca = resolveCa(name, { contact: [], directory: pebble.directory, roots, trust: 'any' })
    if (ca !== undefined) await issuers.create(ca).probe(new AbortController().signal)
  }
  const { host } = new URL(pebble.directory)
  t.match(witnesses, [
    ['one', host, Number],
    ['two', host, Number],
  ])
  for (const [, , time] of witnesses) t.ok(Math.abs(time - Date.now()) < MINUTE)
})

t.test(
  'what a CA issues below a root that browsers ship is held to their rules, and what is held of it',
  async (t) => {
    const world = await startWorld(t)
    const pebble = await world.startPebble()
    const folder = t.testdir({ 'endpoint.pem': pebble.minicaPem, 'root.pem': await pebble.root() })
    const ca = resolveCa('a', {
      contact: [],
      directory: pebble.directory,
      roots: `${folder}/endpoint.pem`,
      trust: `${folder}/root.pem`,
    })
    if (ca === undefined) return t.fail('no such CA')
    const options = {
      records: await world.records(),
      clock: new SystemClock(),
      log: silentLog(),
      solvers: [world.http01],
    }
    const request = requestFor(['app.example.com'])
    const forever = new AbortController().signal
    const certificate = await new Issuers(options).create(ca).issue(request, forever)
    // As if browsers shipped the root of Pebble, which asks no log.
    const issuers = new Issuers({ ...options, browserRoots: [new X509Certificate(await pebble.root())] })
    t.match(await issueErrorOf(issuers.create(ca).issue(request, forever)), {
      code: 'CA_BAD_CERTIFICATE',
      blame: 'ca',
      message: /SCTs from 0 Certificate Transparency logs/,
    })
    t.throws(() => issuers.verify(certificate), { code: 'CHAIN_INVALID' })
  },
)

t.test('an operator is one witness of the time, by whatever names his CAs are reached', async (t) => {
  const clockOfPreset = (name: string): string => {
    const ca = resolveCa(name, undefined)
    return ca?.type === 'acme' ? clockOf(ca.directory) : name
  }
  t.equal(clockOfPreset('letsencrypt'), clockOfPreset('letsencrypt-staging'))
  t.not(clockOfPreset('letsencrypt'), clockOfPreset('google'))
  t.not(clockOf('https://127.0.0.1:14000/dir'), clockOf('https://127.0.0.1:15000/dir'))
})

t.test('a pinned root is one that chains of its CA may end in, and of no other, at once', async (t) => {
  const log = silentLog()
  const records = new Records(await openFileStore(t.testdir({}), log), log)
  const authority = await makeAuthority()
  const issuers = new Issuers({ records, clock: new SystemClock(), log, solvers: [] })
  for (const name of ['letsencrypt', 'google']) {
    const ca = resolveCa(name, undefined)
    if (ca !== undefined) issuers.create(ca)
  }
  // As if the runtime had dropped the root from its set.
  const verify = async (source: string) => {
    await issuers.load()
    return issuers.verify(await makeCertificate({ names: ['app.example.com'], authority, source }))
  }
  await t.rejects(verify('letsencrypt'), { code: 'CHAIN_INVALID' })
  await records.savePinnedRoots('letsencrypt', authority.rootPem)
  t.equal((await verify('letsencrypt'))?.toString(), authority.rootPem)
  await t.rejects(verify('google'), { code: 'CHAIN_INVALID' })
  await records.removePinnedRoots('letsencrypt')
  await t.rejects(verify('letsencrypt'), { code: 'CHAIN_INVALID' })
})

t.test(
  'of what no CA of the config has issued a chain is judged by its end, where that is known',
  async (t) => {
    const log = silentLog()
    const now = Date.now()
    const ending = await makeAuthority({ intermediateNotAfter: now + DAY })
    const certificate = await makeCertificate({
      names: ['app.example.com'],
      authority: ending,
      source: IMPORTED,
    })
    const other = await makeCertificate({ names: ['app.example.com'], source: IMPORTED })
    const issuersAt = async (time: number, roots: readonly string[]) => {
      const records = new Records(await openFileStore(t.testdir({}), log), log)
      const clock = Object.assign(new SystemClock(), { now: () => time })
      const browserRoots = roots.map((pem) => new X509Certificate(pem))
      return new Issuers({ records, clock, log, solvers: [], browserRoots })
    }
    const known = await issuersAt(now + DAY, [ending.rootPem])
    t.equal(known.endOf(certificate), Math.floor((now + DAY) / SECOND) * SECOND)
    t.throws(() => known.verify(certificate), { code: 'CERTIFICATE_EXPIRED', message: /"Test Intermediate"/ })
    t.equal((await issuersAt(now, [ending.rootPem])).verify(certificate), undefined)
    const unknown = await issuersAt(now + DAY, [(await makeAuthority()).rootPem])
    t.equal(unknown.endOf(certificate), certificate.notAfter)
    t.equal(unknown.verify(certificate), undefined, 'nobody knows by which root its clients go')
    t.equal(known.endOf(other), other.notAfter)
  },
)
