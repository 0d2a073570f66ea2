/**
 * Names a process so that others can tell whether it is still there, even when its pid went to another process in the
 * meantime. Serves `fs.ts` and `file-locks.ts`, which put the name into file names.
 */
import { createHash } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

/** `elsewhere`: another machine or container, or before a reboot: nothing can be told from here. */
export type OwnerState = 'alive' | 'gone' | 'elsewhere'

/** Of this process, as `<pid>-<start>-<realm>`: letters, digits and hyphens. */
export function ownerOfThisProcess(): string {
  return `${process.pid}-${startOf(process.pid) ?? 0}-${realm()}`
}

export function stateOf(owner: string): OwnerState {
  const [pid = '', start, place] = owner.split('-')
  if (place !== realm()) return 'elsewhere'
  if (!exists(Number(pid))) return 'gone'
  const startNow = startOf(Number(pid))
  return startNow === undefined || startNow === start ? 'alive' : 'gone'
}

/** Where pids mean the same: one boot of one kernel, and there one pid namespace (a container has its own). */
function realm(): string {
  const boot = attempt(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')) ?? hostname()
  const namespace = attempt(() => readlinkSync('/proc/self/ns/pid'))
  return createHash('sha256').update(`${boot} ${namespace}`).digest('hex').slice(0, 12)
}

/** In clock ticks since boot; `dead` for a zombie; undefined where the system does not tell (proc(5), pid/stat). */
function startOf(pid: number): string | undefined {
  const stat = attempt(() => readFileSync(`/proc/${pid}/stat`, 'latin1'))
  // The second field, the program's name, may hold spaces and parentheses itself.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')
  return /^[ZX]/.test(fields?.[0] ?? '') ? 'dead' : fields?.[19]
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // EPERM: it is there, and another user's.
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}
