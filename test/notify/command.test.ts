import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { run } from '../../src/notify/command.ts'
import { composeMessage } from '../../src/notify/message.ts'
import { keepAlive } from '../support/alive.ts'
import { AT, degraded, failed } from '../support/events.ts'

const MESSAGE = composeMessage('7', { last: degraded(), count: 1, since: AT, hosts: new Set() })

t.test('the command gets the message on standard input and in its environment', async (t) => {
  const folder = t.testdir()
  const hosts = new Set(['a.example', 'b.example'])
  const message = composeMessage('7', { last: failed('b.example'), count: 2, since: AT, hosts })
  await run(
    ['/bin/sh', '-c', 'cat > stdin; env > environment'].map(inFolder(folder)),
    message,
    process.env,
    signal(),
  )
  t.same(JSON.parse(readFileSync(join(folder, 'stdin'), 'utf8')), JSON.parse(JSON.stringify(message)))
  const environment = readFileSync(join(folder, 'environment'), 'utf8')
  t.match(environment, /^HOLDFAST_EVENT=certificate\.failed$/m)
  t.match(environment, /^HOLDFAST_HOSTS=a\.example b\.example$/m)
  t.match(environment, /^HOLDFAST_COUNT=2$/m)
})

t.test('the secrets of our own environment stay here', async (t) => {
  const folder = t.testdir()
  await run(
    ['/bin/sh', '-c', 'env > environment'].map(inFolder(folder)),
    MESSAGE,
    { ...process.env, ZEROSSL_HMAC: 'hush' },
    signal(),
  )
  t.notMatch(readFileSync(join(folder, 'environment'), 'utf8'), /hush/)
})

t.test('no shell reads what a CA says', async (t) => {
  const folder = t.testdir()
  const event = { ...degraded(), message: `$(touch ${folder}/pwned) ; touch ${folder}/pwned` }
  const message = composeMessage('7', { last: event, count: 1, since: AT, hosts: new Set() })
  await run(['/usr/bin/env', 'true'], message, process.env, signal())
  t.throws(() => readFileSync(join(folder, 'pwned')))
})

t.test('a command that fails says why', async (t) => {
  await t.rejects(run(['/bin/sh', '-c', 'echo no pager >&2; exit 3'], MESSAGE, process.env, signal()), {
    message: 'ended with 3: no pager',
  })
})

t.test('a command that is not there is an error, and so is one that does not read', async (t) => {
  await t.rejects(run(['/no/such/program'], MESSAGE, process.env, signal()), /ENOENT/)
  await t.resolves(run(['/bin/true'], MESSAGE, process.env, signal()))
})

t.test('a command that hangs is killed with its children', async (t: Test) => {
  keepAlive(t)
  const folder = t.testdir()
  const controller = new AbortController()
  const running = run(
    ['/bin/sh', '-c', 'sleep 600 & echo $! > child; wait'].map(inFolder(folder)),
    MESSAGE,
    process.env,
    controller.signal,
  )
  const child = await until(() => Number(readFileSync(join(folder, 'child'), 'utf8')) || undefined)
  controller.abort()
  await t.rejects(running, /SIGKILL/)
  await until(() => (isAlive(child) ? undefined : true))
})

/** The script runs in the folder, whatever the working directory is. */
function inFolder(folder: string): (argument: string, index: number) => string {
  return (argument, index) => (index === 2 ? `cd '${folder}' ; ${argument}` : argument)
}

function signal(): AbortSignal {
  return new AbortController().signal
}

/** A child that nobody has reaped yet counts as dead. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

async function until<T>(find: () => T | undefined): Promise<T> {
  for (;;) {
    try {
      const found = find()
      if (found !== undefined) return found
    } catch {
      // Not there yet.
    }
    await new Promise((resolve) => setImmediate(resolve))
  }
}
