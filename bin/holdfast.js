#!/usr/bin/env node
/**
 * Starts the program: from its sources in a checkout, from `dist/` once installed.
 * Plain JavaScript that Node 12.17 can parse, so that an old Node gets a sentence and no stack trace.
 */
// biome-ignore lint/style/useNodejsImportProtocol: Node before 12.20 knows no `node:`
import { existsSync } from 'fs'
// biome-ignore lint/style/useNodejsImportProtocol: as above
import { fileURLToPath } from 'url'

/** Informational responses and a say in upgrades came to node:http during 24. */
const OLDEST = [24, 18]

const source = new URL('../src/cli.ts', import.meta.url)
const [major, minor] = process.versions.node.split('.').map(Number)
if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
  const found = `${process.version} (${process.execPath})`
  console.error(`holdfast needs Node ${OLDEST.join('.')} or newer, and this is Node ${found}. ${remedy()}.`)
  process.exitCode = 1
} else {
  const program = existsSync(source) ? source : new URL('../dist/cli.js', import.meta.url)
  import(program.href).then((cli) => cli.main(process.argv.slice(2)))
}

/**
 * The Node that the optional packages bring is named, not started: as a child of this one it would hear Ctrl-C twice,
 * once from the terminal, and the second one does not wait for what is in flight.
 */
function remedy() {
  const bundled = `node-${process.platform}-${process.arch}/bin/node`
  const beside = ['../node_modules/', '../../']
    .map((folder) => new URL(folder + bundled, import.meta.url))
    .find((file) => existsSync(file))
  if (beside !== undefined)
    return `One came with it: start with \`${[fileURLToPath(beside), ...process.argv.slice(1)].join(' ')}\``
  if (existsSync(source)) return '`npm ci` brings one: start with `npm run holdfast -- serve`'
  return 'Install one, or install holdfast with its optional packages, which bring one'
}
