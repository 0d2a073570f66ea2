/** A diagnosis for people: a table of hosts and CAs, then what was found, each trouble with its fix, and what it amounts to. */
import { count, paint, table } from '../terminal.ts'
import type { Diagnosis, HostFinding, HostReport } from './examination.ts'
import type { Verdict } from './finding.ts'

const COLOURS: Readonly<Record<Verdict, 'green' | 'yellow' | 'red'>> = {
  ok: 'green',
  warn: 'yellow',
  fail: 'red',
}

/** With more hosts than this, those that are alike share a row; each has its findings below. */
const MOST_ROWS = 50

export function describe({ machine, cas, hosts }: Diagnosis): string {
  const groups = [
    { title: 'This machine', findings: machine },
    ...cas.map(({ ca, findings }) => ({ title: `CA ${ca}`, findings })),
    ...hosts.map(({ host, findings }) => ({ title: host, findings: findings.filter(isNews) })),
  ].filter(({ findings }) => findings.length > 0)
  const all: readonly HostFinding[] = groups.flatMap(({ findings }) => findings)
  const width = Math.max(0, ...all.map((finding) => subjectOf(finding).length))
  const blocks = groups.map(({ title, findings }) =>
    [paint('bold', title), ...findings.map((finding) => line(finding, width))].join('\n'),
  )
  return [tabulate(cas, hosts), ...blocks, summarize(hosts)].join('\n\n')
}

/** A row a host, a column a CA, also one that supplies no host; `-` where a host does not use it. */
function tabulate(examined: Diagnosis['cas'], hosts: readonly HostReport[]): string {
  const cas = [...new Set([...examined, ...hosts.flatMap((report) => report.cas)].map(({ ca }) => ca))]
  const rows = hosts.map((report) => ({
    host: report.host,
    cells: [...cas.map((ca) => report.cas.find((each) => each.ca === ca)?.standing ?? '-'), report.failover],
  }))
  const groups =
    hosts.length > MOST_ROWS
      ? [...Map.groupBy(rows, ({ cells }) => cells.join('\n')).values()]
      : rows.map((row) => [row])
  return table(
    ['HOST', ...cas, 'FAILOVER'],
    groups.flatMap(([first, ...alike]) => {
      if (first === undefined) return []
      const more = alike.length === 0 ? '' : ` and ${alike.length} more`
      return [[first.host + more, ...first.cells]]
    }),
  )
}

/** Has the table not said it, nor `This machine`, which tells once that no instance runs? */
function isNews({ check, verdict }: HostFinding): boolean {
  return check !== 'reach' && !(check === 'CAs' && verdict === 'ok')
}

function line(finding: HostFinding, width: number): string {
  const { verdict, says, fix } = finding
  const head = `  ${paint(COLOURS[verdict], verdict.padEnd(4))}  ${subjectOf(finding).padEnd(width)}  ${says}`
  return fix === undefined ? head : `${head}\n        ${' '.repeat(width)}  fix: ${fix}`
}

function subjectOf({ check, ca }: HostFinding): string {
  return ca === undefined ? check : `${check} (${ca})`
}

/** Which they are, the table says. */
function summarize(hosts: readonly HostReport[]): string {
  const exposed = hosts.filter(({ dependsOnOne }) => dependsOnOne)
  if (exposed.length === 0) return paint('green', 'No host depends on one CA alone.')
  const without = exposed.filter(({ usable }) => usable.length === 0).length
  const alone = exposed.length - without
  const all = count(hosts.length, 'host')
  return [
    ...(without === 0
      ? []
      : [`${without} of ${all} ${without === 1 ? 'has' : 'have'} no CA that can issue.`]),
    ...(alone === 0 ? [] : [`${alone} of ${all} ${alone === 1 ? 'depends' : 'depend'} on one CA alone.`]),
  ]
    .map((sentence) => paint('red', sentence))
    .join(' ')
}
