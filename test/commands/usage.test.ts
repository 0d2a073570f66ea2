/** What `--help` says of the commands. */
import t from 'tap'
import { COMMANDS } from '../../src/cli.ts'
import { makeFolder, run } from './program.ts'

const folder = await makeFolder(t)

t.test('the usage of a command names every option that it takes', async (t) => {
  for (const [name, { load }] of Object.entries(COMMANDS)) {
    const { options, usage } = await load()
    for (const [option, { short }] of Object.entries(options)) {
      t.match(usage, new RegExp(`[ [|]--${option}(?![\\w-])`), `${name} --${option}`)
      if (short !== undefined) t.match(usage, ` -${short}, --${option} `, `${name} -${short}`)
    }
  }
})

t.test('--help and -h: the usage of the command, exit code 0, and nothing is done', async (t) => {
  for (const [name, { load }] of Object.entries(COMMANDS)) {
    const { usage } = await load()
    t.match(usage, new RegExp(`^Usage: holdfast \\[?${name}`))
    for (const help of ['--help', '-h'])
      t.strictSame(
        await run(folder, [name, help]),
        { code: 0, out: `${usage}\n`, err: '' },
        `${name} ${help}`,
      )
  }
  t.match(await run(folder, ['--demo', '--help']), { code: 0, out: /^Usage: holdfast \[serve\]/ })
})

t.test('without a command, --help and -h list them all', async (t) => {
  for (const help of ['--help', '-h', 'help']) {
    const { code, out } = await run(folder, [help])
    t.equal(code, 0)
    for (const name of Object.keys(COMMANDS)) t.match(out, new RegExp(`^  ${name} `, 'm'))
  }
})
