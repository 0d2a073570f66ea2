/** A diagnosis for people: what was found, grouped by host, each trouble with its fix, and what it amounts to. */
import { paint } from '../terminal.ts'
import type { Diagnosis, HostFinding, HostReport } from './examination.ts'
import type { Verdict } from './finding.ts'

const COLOURS: Readonly<Record<Verdict, 'green' | 'yellow' | 'red'>> = {
  ok: 'green',
  warn: 'yellow',
  fail: 'red',
}

/** As many hosts as the summary names; the table above it has them all. */
const MOST_NAMES = 10

export function describe({ machine, cas, hosts }: Diagnosis): string {
  const groups = [
    { title: 'This machine', findings: machine },
    ...cas.map(({ ca, findings }) => ({ title: `CA ${ca}`, findings })),
    ...hosts.map(({ host, findings }) => ({ title: host, findings })),
  ]
  const all: readonly HostFinding[] = groups.flatMap(({ findings }) => findings)
  const width = Math.max(0, ...all.map((finding) => subjectOf(finding).length))
  const blocks = groups.map(({ title, findings }) =>
    [paint('bold', title), ...findings.map((finding) => line(finding, width))].join('\n'),
  )
  return [...blocks, summarize(hosts)].join('\n\n')
}

function line(finding: HostFinding, width: number): string {
  const { verdict, says, fix } = finding
  const head = `  ${paint(COLOURS[verdict], verdict.padEnd(4))}  ${subjectOf(finding).padEnd(width)}  ${says}`
  return fix === undefined ? head : `${head}\n        ${' '.repeat(width)}  fix: ${fix}`
}

function subjectOf({ check, ca }: HostFinding): string {
  return ca === undefined ? check : `${check} (${ca})`
}

/** `2 hosts depend on one CA alone: a.example.com (letsencrypt), b.example.com (none)` */
export function summarize(hosts: readonly HostReport[]): string {
  const exposed = hosts.filter(({ dependsOnOne }) => dependsOnOne)
  if (exposed.length === 0) return paint('green', 'No host depends on one CA alone.')
  const names = exposed
    .slice(0, MOST_NAMES)
    .map(({ host, usable }) => `${host} (${usable.join(', ') || 'none can issue'})`)
  const more = exposed.length > MOST_NAMES ? `, and ${exposed.length - MOST_NAMES} more` : ''
  const count = exposed.length === 1 ? '1 host depends' : `${exposed.length} hosts depend`
  return paint('red', `${count} on one CA alone: ${names.join(', ')}${more}`)
}
