/** The comparison as an SVG chart: for each row a bar a proxy, as long as its ratio to nginx. Pure; for `compare.ts`. */
import type { Result } from '../compare.ts'

interface ChartRow {
  readonly title: string
  readonly results: readonly Result[]
}

const BAR = 14
const GAP = 4
const TITLE = 24
const LEFT = 170
const UNIT = 260
const WIDTH = 760
const MAX_RATIO = 2

/** Bars end at twice nginx; their figures say how much more it is. */
export function drawChart(rows: readonly ChartRow[]): string {
  let y = 12
  const parts: string[] = []
  for (const { title, results } of rows) {
    y += TITLE
    parts.push(`<text x="8" y="${y - 8}" class="title">${title}</text>`)
    for (const { proxy, ratio } of results) {
      const length = Math.min(MAX_RATIO, ratio) * UNIT
      const kind = proxy.startsWith('Holdfast') ? 'own' : 'other'
      parts.push(
        `<text x="${LEFT - 8}" y="${y + 11}" text-anchor="end">${proxy}</text>`,
        `<rect x="${LEFT}" y="${y}" width="${length.toFixed(1)}" height="${BAR}" class="${kind}"/>`,
        `<text x="${(LEFT + length + 6).toFixed(1)}" y="${y + 11}">${ratio.toFixed(2)}</text>`,
      )
      y += BAR + GAP
    }
  }
  const level = LEFT + UNIT
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y + 12}" viewBox="0 0 ${WIDTH} ${y + 12}">
<style>text{font:12px sans-serif;fill:#222}.title{font-weight:bold}.own{fill:#2a6fdb}.other{fill:#b8bec8}</style>
<rect width="100%" height="100%" fill="#fff"/>
<line x1="${level}" x2="${level}" y1="8" y2="${y + 4}" stroke="#888" stroke-dasharray="3 3"/>
${parts.join('\n')}
</svg>
`
}
