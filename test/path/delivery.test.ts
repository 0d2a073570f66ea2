/** The delivery path: renewer → inventory → deliveries → files that another server reads. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startRig } from './rig.ts'

const HOST = 'app.example.com'

t.test(
  'what a CA issues is in the files at once, and a start mends what has changed meanwhile',
  async (t) => {
    const folder = t.testdir({})
    const rig = await startRig(t, {
      sites: (upstream) => [
        {
          hosts: [HOST],
          upstreams: [upstream],
          deliver: [{ combined: `${folder}/{host}.pem`, command: ['touch', `${folder}/{host}.told`] }],
        },
      ],
    })
    const file = join(folder, `${HOST}.pem`)
    await rig.server.start()
    await rig.log.logged(({ msg }) => msg === `ran touch ${folder}/${HOST}.told`)
    const before = readFileSync(file, 'utf8')
    t.match(before, /^-----BEGIN CERTIFICATE-----[\s\S]*-----BEGIN PRIVATE KEY-----/)
    await rig.server.stop()

    writeFileSync(file, 'damaged')
    const seen = rig.log.lines.length
    const again = await rig.restart()
    await again.start()
    await rig.log.logged((line) => line.msg.startsWith('ran touch') && rig.log.lines.indexOf(line) >= seen)
    t.equal(readFileSync(file, 'utf8'), before)
  },
)
