#!/usr/bin/env node
/**
 * Starts the program: from its sources in a checkout, from `dist/` once installed.
 * Plain JavaScript that Node 12.17 can parse, so that an old Node gets a sentence and no stack trace.
 */
// biome-ignore lint/style/useNodejsImportProtocol: Node before 12.20 knows no `node:`
import { existsSync } from 'fs'

/** Informational responses and a say in upgrades came to node:http during 24. */
const OLDEST = [24, 18]

const [major, minor] = process.versions.node.split('.').map(Number)
if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
  const found = `${process.version} (${process.execPath})`
  const remedy = '`npm ci` brings one: start with `npm run holdfast -- serve`'
  console.error(`holdfast needs Node ${OLDEST.join('.')} or newer, and this is Node ${found}. ${remedy}.`)
  process.exitCode = 1
} else {
  const source = new URL('../src/cli.ts', import.meta.url)
  const program = existsSync(source) ? source : new URL('../dist/cli.js', import.meta.url)
  import(program.href).then((cli) => cli.main(process.argv.slice(2)))
}
