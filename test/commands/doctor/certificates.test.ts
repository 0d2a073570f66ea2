import { X509Certificate } from 'node:crypto'
import t from 'tap'
import { Certificate } from '../../../src/cert/certificate.ts'
import type { Holding } from '../../../src/cert/inventory.ts'
import { checkFile, checkHolding } from '../../../src/commands/doctor/certificates.ts'
import type { IssuedPolicy } from '../../../src/config/sites.ts'
import { DAY } from '../../../src/time.ts'
import { makeAuthority, makeCertificate } from '../../support/certificates.ts'
import { wordsOf } from './words.ts'

const host = 'app.example.com'
const authority = await makeAuthority()
const root = new X509Certificate(authority.rootPem)
const now = Date.now()
const notBefore = Math.floor(now / 1000) * 1000 - DAY
const make = (source: string, more = {}) =>
  makeCertificate({ names: [host], authority, source, notBefore, ...more })
const a = await make('a')
const b = await make('b')
const policy: IssuedPolicy = {
  kind: 'issued',
  cas: ['a', 'b'],
  operators: new Map([
    ['a', 'a.example'],
    ['b', 'b.example'],
  ]),
  standby: 'always',
  challenges: ['http-01'],
  keyType: 'ecdsa-p256',
  reuseKey: false,
  interim: false,
}

function check(holding: Holding, more: Partial<IssuedPolicy> = {}, at = now): string[] {
  return checkHolding(host, { ...policy, ...more }, holding, () => ({ roots: [root] }), at).map((each) =>
    wordsOf(each).replace(/ \(until .*?\)/, ''),
  )
}

const LIVE = 'ok live: from a, verifies, 89d left'
const left = Math.floor(now / 1000) * 1000

t.test('all is well', async (t) => {
  t.same(check({ live: a, standby: b }, {}, left), [
    LIVE,
    'ok standby: from b, verifies, 89d left',
    'ok standby: is from another CA (b), with another key',
  ])
})

t.test('no certificate yet', async (t) => {
  t.same(check({}), [
    `warn live: there is no certificate yet | fix: start \`holdfast serve\`, then \`holdfast status\` tells how ${host} fares`,
  ])
})

t.test('expired', async (t) => {
  const [live] = check({ live: a, standby: b }, {}, now + 100 * DAY)
  t.match(
    live,
    /^fail live: chain of app\.example\.com from a: the leaf expired on .* \| fix: run `holdfast certs renew app\.example\.com`$/,
  )
})

t.test('a chain that ends nowhere', async (t) => {
  const [live] = check({ live: await makeCertificate({ names: [host], source: 'a' }) }, { cas: ['a'] })
  t.match(
    live,
    /^fail live: chain of .*signature of .* is not by the trusted root|^fail live: .*not a trusted root/,
  )
})

t.test('a renewal that is late', async (t) => {
  const [live] = check({ live: a }, { cas: ['a'] }, left + 79 * DAY)
  t.equal(
    live,
    'warn live: from a, verifies, 10d left: its renewal is late | fix: see `holdfast status` for why, or run `holdfast certs renew app.example.com`',
  )
})

t.test('no standby', async (t) => {
  t.same(check({ live: a }, {}, left), [
    LIVE,
    'fail standby: there is none, so that a bad live certificate has no stand-in | fix: `holdfast status` tells why it could not be had',
  ])
  t.same(check({ live: a }, { standby: 'on-degraded' }, left), [
    LIVE,
    'ok standby: none while the first CA is well, as configured',
  ])
  t.same(check({ live: a }, { standby: 'off' }, left), [
    LIVE,
    'warn standby: off: a failover takes as long as an order at the second CA | fix: set "standby": "always" in `tls` for app.example.com',
  ])
})

t.test('a standby that shares the CA or the key', async (t) => {
  const same = check({ live: a, standby: await make('a') }, {}, left)
  t.equal(
    same.at(-1),
    `fail standby: is from a, as the live one is | fix: run \`holdfast certs renew ${host}\``,
  )
  const copy = new Certificate(a.chainPem, a.keyPem, 'b', 'a copy')
  const shared = check({ live: a, standby: copy }, {}, left)
  t.equal(
    shared.at(-1),
    `fail standby: has the key of the live one | fix: run \`holdfast certs renew ${host}\``,
  )
})

t.test('a standby from the same company under another name, where there is another company', async (t) => {
  const operators = new Map([
    ['a', 'one.example'],
    ['b', 'one.example'],
  ])
  const last = (more: Partial<IssuedPolicy>) => check({ live: a, standby: b }, more, left).at(-1)
  t.equal(last({ operators }), 'ok standby: is from another CA (b), with another key')
  t.equal(
    last({ cas: ['a', 'b', 'c'], operators: new Map([...operators, ['c', 'two.example']]) }),
    `fail standby: is from b, of the company that a is of | fix: run \`holdfast certs renew ${host} --role standby\``,
  )
})

t.test('what browsers would refuse below a root that they ship', async (t) => {
  const trust = { roots: [root], browserRoots: [root] }
  const [live] = checkHolding(host, { ...policy, cas: ['a'] }, { live: a }, () => trust, now)
  t.match(
    live && wordsOf(live),
    /^fail live: .* SCTs from 0 Certificate Transparency logs, and browsers want 2 \| fix: /,
  )
})

t.test('a certificate of the operator’s own', async (t) => {
  const folder = t.testdir({ 'own.pem': a.chainPem + a.keyPem })
  const file = {
    kind: 'file',
    certificate: `${folder}/own.pem`,
    key: undefined,
    passphrase: undefined,
  } as const
  const [good] = await checkFile(host, file, () => ({ roots: [root] }), left)
  t.match(
    good && wordsOf(good),
    /^ok file: from file, verifies, 89d left .*; renewed by hand: no CA supplies it$/,
  )
  const [bad] = await checkFile(host, file, () => ({ roots: [root] }), left + 100 * DAY)
  t.match(
    bad && wordsOf(bad),
    /^fail file: .*expired on .* \| fix: put a valid certificate for app\.example\.com there$/,
  )
})
