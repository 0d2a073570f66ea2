import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import t from 'tap'
import { ownerOfThisProcess, stateOf } from '../../src/store/owner.ts'

const [, , realm] = ownerOfThisProcess().split('-')

async function ownerOf(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1')
  return `${pid}-${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]}-${realm}`
}

t.test('this process is alive', async (t) => {
  t.equal(stateOf(ownerOfThisProcess()), 'alive')
})

t.test('a process is gone once it exits', async (t) => {
  const child = spawn('cat')
  await once(child, 'spawn')
  const owner = await ownerOf(child.pid!)
  t.equal(stateOf(owner), 'alive')
  child.kill('SIGKILL')
  await once(child, 'exit')
  t.equal(stateOf(owner), 'gone')
})

t.test('a process is gone when its pid went to another, whatever that is called', async (t) => {
  const child = spawn('cat')
  await once(child, 'spawn')
  t.teardown(() => child.kill('SIGKILL'))
  t.equal(stateOf(`${child.pid}-1-${realm}`), 'gone')
})

t.test('a process that died without its parent noticing is gone', async (t) => {
  // The shell becomes a program that never waits for the child that it had.
  const parent = spawn('sh', ['-c', 'sleep 1000 & echo $!; exec cat'], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => parent.kill('SIGKILL'))
  const [line] = await once(parent.stdout, 'data')
  const pid = Number(String(line))
  const owner = await ownerOf(pid)
  t.equal(stateOf(owner), 'alive')
  process.kill(pid, 'SIGKILL')
  while (!/\) Z /.test(await readFile(`/proc/${pid}/stat`, 'latin1'))) await new Promise(setImmediate)
  t.equal(stateOf(owner), 'gone')
})

t.test('of a process elsewhere nothing can be told', async (t) => {
  t.equal(stateOf(`${process.pid}-1-elsewhere`), 'elsewhere')
})
