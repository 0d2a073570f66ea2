/** What the playbook tells an operator to run works in the outage that it is about, and says what it promises. */
import { execFile } from 'node:child_process'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { makeAuthority, makeCertificate } from '../support/certificates.ts'
import { type Rig, startRig } from './rig.ts'

const HOST = 'app.example.com'
const ROOT = join(import.meta.dirname, '../..')
const PLAYBOOK = readFileSync(join(ROOT, 'docs/ca-outage-playbook.md'), 'utf8')
const COMMANDS = [...PLAYBOOK.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, block]) =>
  // The rig's CA stands for the one of the document.
  (block ?? '').replaceAll('letsencrypt', 'a').trim().split('\n'),
)

t.test('in an outage', async (t) => {
  const rig = await startRig(t, {
    faulty: true,
    sites: (upstream) => [{ hosts: [HOST], upstreams: [upstream], tls: { cas: ['a'] } }],
  })
  await rig.server.start()
  await rig.log.logged(({ msg }) => msg === `${HOST}: certificate issued by a`)
  await rig.fault.setFault({ kind: '503' })
  const isDown = rig.log.logged(({ msg }) => msg.startsWith('a is down'))
  await rig.admin(`/api/certificates/${HOST}/renew`, 'POST')
  await isDown

  const authority = await makeAuthority()
  const bought = await makeCertificate({ names: [HOST], authority })
  writeFileSync(join(rig.directory, 'bought.pem'), bought.chainPem)
  writeFileSync(join(rig.directory, 'bought.key'), bought.keyPem)

  t.ok(COMMANDS.length >= 8)
  const outputs = new Map<string, string>()
  for (const command of COMMANDS) {
    const { code, output } = await shell(rig, command)
    t.equal(code, 0, `${command}\n${output}`)
    outputs.set(command, output)
  }

  t.test('status and forecast say what is lost', async (t) => {
    t.match(outputs.get('holdfast status'), /^If a stays down: 1 host expires on .* UTC\.$/m)
    const [forecast] = JSON.parse(outputs.get('curl -fsS "$HOLDFAST_ADMIN/api/forecast"') ?? '')
    t.match(forecast, { ca: 'a', hosts: [{ host: HOST }] })
  })

  t.test('the events tell the story', async (t) => {
    const events: { type: string }[] = JSON.parse(outputs.get('curl -fsS "$HOLDFAST_ADMIN/api/events"') ?? '')
    t.same(
      events.slice(0, 2).map(({ type }) => type),
      ['certificate.issued', 'ca.degraded'],
    )
    t.match(events[1], { ca: 'a', exposure: /1 host expires/, at: /Z$/ })
  })

  t.test('what was imported is served, and what was exported is it', async (t) => {
    const { fingerprint } = await rig.handshake(HOST, authority.rootPem)
    t.equal(fingerprint.replaceAll(':', '').toLowerCase(), bought.fingerprint)
    t.equal(readFileSync(join(rig.directory, 'app.pem'), 'utf8'), bought.chainPem + bought.keyPem)
  })
})

function shell(rig: Rig, command: string): Promise<{ code: number; output: string }> {
  const program = join(rig.directory, 'holdfast')
  writeFileSync(program, `#!/bin/sh\nexec '${process.execPath}' '${ROOT}/bin/holdfast.js' "$@"\n`)
  chmodSync(program, 0o755)
  const env = {
    ...process.env,
    PATH: `${rig.directory}:${process.env.PATH}`,
    HOLDFAST_ADMIN: `http://127.0.0.1:${rig.ports.admin}`,
  }
  return new Promise((resolve) => {
    execFile('/bin/sh', ['-c', command], { cwd: rig.directory, env }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), output: stdout + stderr }),
    )
  })
}
