/**
 * What the playbook tells an operator to run works in the outage that it is about, and says what it promises. Two acts,
 * each with an instance and CAs of its own: so nobody waits until a breaker closes.
 */
import { execFile } from 'node:child_process'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { HostView } from '../../src/admin/views.ts'
import { loadConfig } from '../../src/config/load.ts'
import { until } from '../commands/program.ts'
import { makeAuthority, makeCertificate } from '../support/certificates.ts'
import { type Rig, startRig } from './rig.ts'

const HOST = 'app.example.com'
/** The CAs of the document. */
const NAMES = ['letsencrypt', 'zerossl'] as const
const ROOT = join(import.meta.dirname, '../..')
const PLAYBOOK = readFileSync(join(ROOT, 'docs/ca-outage-playbook.md'), 'utf8')
const BLOCK = /^ *```sh\n(.*?)^ *```$/gms
const COMMANDS = [...PLAYBOOK.matchAll(BLOCK)].flatMap(([, block = '']) =>
  block
    .trim()
    .split('\n')
    .map((line) => line.trim()),
)

/** In the order in which they were run, over both acts. */
const played: string[] = []

t.test('in an outage (sections 1 to 5)', async (t) => {
  const rig = await startRig(t, {
    names: NAMES,
    sites: (upstream) => [{ hosts: [HOST], upstreams: [upstream], tls: { cas: ['letsencrypt'] } }],
  })
  await rig.server.start()
  await rig.log.logged(({ msg }) => msg === `${HOST}: certificate issued by letsencrypt`)
  await rig.faults.a.setFault({ kind: '503' })
  const isDown = rig.log.logged(({ msg }) => msg.startsWith('letsencrypt is down'))
  await rig.admin(`/api/certificates/${HOST}/renew`, 'POST')
  await isDown
  const play = player(t, rig)

  t.match(await play('holdfast status'), /^If letsencrypt stays down: 1 host expires on .* UTC\.$/m)
  t.match(JSON.parse(await play('holdfast status --json')), { hosts: [{ host: HOST }] })
  const [forecast] = JSON.parse(await play('curl -fsS "$ADMIN/api/forecast"'))
  t.match(forecast, { ca: 'letsencrypt', hosts: [{ host: HOST }] })
  const events = JSON.parse(await play('curl -fsS "$ADMIN/api/events"'))
  t.match(events.slice(0, 2), [
    { type: 'certificate.issued' },
    { type: 'ca.degraded', ca: 'letsencrypt', exposure: /1 host expires/, at: /Z$/ },
  ])

  const diagnosis = await play('holdfast doctor', 1)
  t.match(diagnosis, /^app\.example\.com +unreachable +no CA$/m)
  t.match(diagnosis, 'fix: add a second CA to `tls.cas`, such as zerossl')

  await useBothCas(rig)
  t.match(await play('holdfast check'), 'CAs letsencrypt, zerossl')
  await play(`holdfast certs renew ${HOST}`)
  await until(async () => (await hostOf(rig))?.live?.source === 'zerossl')

  const authority = await makeAuthority()
  const bought = await makeCertificate({ names: [HOST], authority })
  writeFileSync(join(rig.directory, 'bought.pem'), bought.chainPem)
  writeFileSync(join(rig.directory, 'bought.key'), bought.keyPem)
  await play(`holdfast certs import ${HOST} --certificate bought.pem --key bought.key`)
  const { fingerprint } = await rig.handshake(HOST, authority.rootPem)
  t.equal(fingerprint.replaceAll(':', '').toLowerCase(), bought.fingerprint, 'it is served')
  t.match(await play('holdfast certs list'), /^app\.example\.com +live +import /m)
  await play(`holdfast certs export ${HOST} --out app.pem`)
  t.equal(readFileSync(join(rig.directory, 'app.pem'), 'utf8'), bought.chainPem + bought.keyPem)
})

t.test('when it is over (sections 6 and 7)', async (t) => {
  const rig = await startRig(t, {
    names: NAMES,
    versionOfB: '2.4',
    trust: 'public',
    tls: { standby: 'always' },
    sites: (upstream) => [{ hosts: [HOST], upstreams: [upstream], tls: { cas: NAMES } }],
  })
  await rig.server.start()
  const holds = (live: string, standby: string) =>
    until(async () => {
      const host = await hostOf(rig)
      return host?.live?.source === live && host.standby?.source === standby
    })
  await holds('letsencrypt', 'zerossl')
  const play = player(t, rig)

  await play('holdfast certs distrust letsencrypt')
  await t.resolves(rig.handshake(HOST, await rig.b.root()), 'the other CA is served at the next handshake')
  await until(async () => (await hostOf(rig))?.live?.source === 'zerossl')
  await play('holdfast certs trust letsencrypt')
  await holds('zerossl', 'letsencrypt')

  t.match(await play('holdfast certs roots'), /^Pebble Root CA .* letsencrypt$/m)
  t.match(await play('holdfast certs roots pin letsencrypt'), /^Pinned "Pebble Root CA .*" for letsencrypt/)

  await rig.admin(`/api/certificates/${HOST}/renew`, 'POST')
  await holds('letsencrypt', 'zerossl')
  const status = await play('holdfast status')
  t.match(status, /^app\.example\.com +valid +letsencrypt, .* left +zerossl, .* left$/m)
  for (const ca of NAMES) t.match(status, new RegExp(`^${ca} +up$`, 'm'))
  t.match(await play('holdfast doctor'), /^app\.example\.com +ok +ok +ready$/m)

  await play('holdfast drill --practice')
  const drill = play('holdfast drill --ca letsencrypt --for 2m')
  const isCanary = /issued by zerossl instead: letsencrypt: order \(a drill\)/
  await Promise.race([drill, rig.log.logged(({ msg }) => isCanary.test(msg))])
  // As Ctrl-C does.
  await rig.admin('/api/drill/end', 'POST')
  t.match(await drill, /^Nothing would have been lost without letsencrypt\.$/m)
})

t.test('it shows no command that was not run', async (t) => {
  t.same(played, COMMANDS)
  const elsewhere = PLAYBOOK.replaceAll(BLOCK, '').match(/\b(?:holdfast|curl) [^`\n]+/g) ?? []
  t.same(
    elsewhere.filter((command) => !COMMANDS.includes(command.trim())),
    [],
  )
})

/** What the command prints, where it ends with this code. */
function player(t: Test, rig: Rig): (command: string, code?: number) => Promise<string> {
  const program = join(rig.directory, 'holdfast')
  // The resolver of the machine is not ours to change.
  const resolver = `[ "$1" = doctor ] && set -- "$@" --dns ${rig.dns.address}`
  writeFileSync(
    program,
    `#!/bin/sh\n${resolver}\nexec '${process.execPath}' '${ROOT}/bin/holdfast.js' "$@"\n`,
  )
  chmodSync(program, 0o755)
  const env = {
    PATH: `${rig.directory}:${process.env.PATH}`,
    ADMIN: `http://127.0.0.1:${rig.ports.admin}`,
  }
  return (command, code = 0) => {
    played.push(command)
    return new Promise((resolve) => {
      execFile('/bin/sh', ['-c', command], { cwd: rig.directory, env }, (error, stdout, stderr) => {
        t.equal(error === null ? 0 : error.code, code, `${command}\n${stdout}${stderr}`)
        resolve(stdout)
      })
    })
  }
}

/** As `serve` does when the file changes. */
async function useBothCas({ directory, server }: Rig): Promise<void> {
  const file = join(directory, 'proxy.config.json')
  const config = JSON.parse(readFileSync(file, 'utf8'))
  config.sites[0].tls.cas = NAMES
  writeFileSync(file, JSON.stringify(config))
  await server.reload(await loadConfig(file, {}))
}

async function hostOf(rig: Rig): Promise<HostView | undefined> {
  const [host] = (await (await rig.admin('/api/certificates')).json()) as HostView[]
  return host
}
