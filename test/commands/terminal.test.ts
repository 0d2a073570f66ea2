/** `serve` as a person starts it: on a terminal, here a pty by script(1). */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import t from 'tap'
import { get, prepare, startApp, writeConfig } from './program.ts'

const PROGRAM = join(import.meta.dirname, '../../bin/holdfast.js')

t.test('on a terminal, the banner says where it serves and what to trust, and Ctrl-C ends it', async (t) => {
  const setup = await prepare(t, await startApp(t))
  await writeConfig(setup, setup.config)
  const command = `exec env --unset=NODE_OPTIONS ${process.execPath} ${PROGRAM} serve`
  const terminal = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    cwd: setup.folder,
    env: { PATH: process.env.PATH ?? '', TERM: 'xterm' },
  })
  t.teardown(() => terminal.kill('SIGKILL'))
  const last = `curl --cacert data/authorities/internal/root.pem https://localhost:${setup.ports.https}`
  let shown = ''
  await new Promise<void>((resolve) => {
    terminal.stdout.setEncoding('utf8').on('data', (text: string) => {
      shown += text
      if (shown.includes(last)) resolve()
    })
  })
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours
  const plain = shown.replaceAll(/\x1b\[[\d;]*m/g, '')
  t.match(plain, `Holdfast is serving https://localhost:${setup.ports.https}`)
  t.match(plain, `Admin:  http://127.0.0.1:${setup.ports.admin}`)
  t.match(await get(setup, '/seen'), { status: 200, body: '/seen' })
  const ended = once(terminal, 'close')
  terminal.stdin.write('\x03')
  t.same(await ended, [0, null])
})
