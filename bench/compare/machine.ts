/**
 * What the kernel knows (proc(5)): CPU time and memory of a process and its offspring, and how busy a core is.
 * Receives process ids from `proxies.ts`; the figures go to `rows.ts`. Linux only.
 */
import { readdirSync, readFileSync } from 'node:fs'

/** USER_HZ: a constant of the kernel's interface. */
const TICKS_PER_SECOND = 100

/** The process and all its descendants. */
function familyOf(pid: number): number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean),
  )
  return [pid, ...children.flatMap((child) => familyOf(Number(child)))]
}

/** User and system time of the process and its descendants so far. */
export function cpuSeconds(pid: number): number {
  let ticks = 0
  for (const member of familyOf(pid)) {
    const stat = readFileSync(`/proc/${member}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    ticks += Number(fields[11]) + Number(fields[12])
  }
  return ticks / TICKS_PER_SECOND
}

/** How long any process has run on this core so far, interrupts apart. */
export function coreSeconds(core: number): number {
  const line = readFileSync('/proc/stat', 'utf8')
    .split('\n')
    .find((each) => each.startsWith(`cpu${core} `))
  const [, user, nice, system] = line?.split(/ +/) ?? []
  return (Number(user) + Number(nice) + Number(system)) / TICKS_PER_SECOND
}

/** Proportional set size: what the process and its descendants would give back, pages that are shared by share. */
export function memoryKilobytes(pid: number): number {
  let sum = 0
  for (const member of familyOf(pid)) {
    const rollup = readFileSync(`/proc/${member}/smaps_rollup`, 'utf8')
    sum += Number(/^Pss: +(\d+)/m.exec(rollup)?.[1] ?? 0)
  }
  return sum
}
