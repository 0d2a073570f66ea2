/** A played fleet as an SVG: hosts without a certificate, and the orders at each CA, over time. Pure. */
import { HOUR } from '../../time.ts'
import type { Played, Scenario } from './fleet.ts'
import { perHour, uncoveredPerHour } from './report.ts'

const WIDTH = 960
const LEFT = 70
const RIGHT = 20
const PANEL = 130
const GAP = 46
const COLOURS = ['#2f6fde', '#d9480f', '#2b8a3e', '#862e9c']

export interface Run {
  readonly name: string
  readonly played: Played
}

/** The first run's orders are drawn; every run's hosts without a certificate. */
export function timeline(runs: readonly Run[], scenario: Scenario): string {
  const hours = scenario.days * 24
  const x = (hour: number): number => LEFT + (hour / hours) * (WIDTH - LEFT - RIGHT)
  const [first] = runs
  const panels = [
    panel({
      title: 'Hosts without a valid certificate',
      lines: runs.map(({ name, played }) => ({ name, values: uncoveredPerHour(played, scenario) })),
      top: GAP,
      x,
    }),
    ...scenario.cas.map((id, index) => {
      const counts = perHour(first?.played.orders[id] ?? [], scenario.start)
      const values = Array.from({ length: hours }, (_, hour) => counts.get(hour) ?? 0)
      return panel({
        title: `${first?.name ?? ''}: orders an hour at ${id}`,
        lines: [{ name: id, values }],
        top: GAP + (index + 1) * (PANEL + GAP),
        x,
      })
    }),
  ]
  const height = GAP + (scenario.cas.length + 1) * (PANEL + GAP)
  const shades = scenario.cas.flatMap((id) =>
    (scenario.outages[id] ?? []).map(({ start, end }) => {
      const from = x((start - scenario.start) / HOUR)
      const width = Math.max(1, x((end - scenario.start) / HOUR) - from)
      return `<rect x="${round(from)}" y="${GAP}" width="${round(width)}" height="${height - 2 * GAP}" fill="#e03131" opacity="0.15"><title>${escapeXml(id)} is out</title></rect>`
    }),
  )
  const days = Array.from({ length: Math.floor(scenario.days / 10) + 1 }, (_, step) => step * 10)
  const axis = days.map(
    (day) => `<text x="${round(x(day * 24))}" y="${height - 8}" text-anchor="middle">day ${day}</text>`,
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" font-size="12">
<rect width="${WIDTH}" height="${height}" fill="#fff"/>
${[...shades, ...panels, ...axis].join('\n')}
</svg>
`
}

interface Panel {
  readonly title: string
  readonly lines: readonly { readonly name: string; readonly values: readonly number[] }[]
  readonly top: number
  readonly x: (hour: number) => number
}

function panel({ title, lines, top, x }: Panel): string {
  const peak = Math.max(
    1,
    ...lines.flatMap(({ values }) => values.reduce((most, value) => Math.max(most, value), 0)),
  )
  const y = (value: number): number => top + PANEL - (value / peak) * PANEL
  const paths = lines.map(({ name, values }, index) => {
    const points = values.map((value, hour) => `${round(x(hour))},${round(y(value))}`).join(' ')
    const colour = COLOURS[index % COLOURS.length]
    const legend =
      lines.length > 1
        ? `<text x="${WIDTH - RIGHT - 160}" y="${top + 14 * (index + 1)}" fill="${colour}">${escapeXml(name)}</text>`
        : ''
    return `<polyline points="${points}" fill="none" stroke="${colour}" stroke-width="1.5"/>${legend}`
  })
  return `<text x="${LEFT}" y="${top - 8}" font-weight="600">${escapeXml(title)}</text>
<line x1="${LEFT}" y1="${top + PANEL}" x2="${WIDTH - RIGHT}" y2="${top + PANEL}" stroke="#999"/>
<text x="${LEFT - 8}" y="${top + 10}" text-anchor="end">${peak}</text><text x="${LEFT - 8}" y="${top + PANEL}" text-anchor="end">0</text>
${paths.join('\n')}`
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}
