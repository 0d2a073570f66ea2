import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'

const SRC = join(import.meta.dirname, '../src')

/** The packages that importing a module of ours loads, without its own dependencies' names. */
async function packagesOf(module: string): Promise<string[]> {
  const program = `
    import { registerHooks } from 'node:module'
    const packages = new Set()
    registerHooks({
      load(url, context, next) {
        const [, name] = /.*node_modules\\/((?:@[^/]+\\/)?[^/]+)/.exec(url) ?? []
        if (name !== undefined) packages.add(name)
        return next(url, context)
      },
    })
    await import(${JSON.stringify(join(SRC, module))})
    console.log(JSON.stringify([...packages]))
    process.exit()`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program])
  return JSON.parse(stdout)
}

t.test('a worker holds no library that only the main process has work for', async (t) => {
  const packages = await packagesOf('workers/worker.ts')
  t.ok(packages.includes('pino'), 'it was looked at')
  for (const name of ['zod', 'acme-client', 'axios', '@peculiar/x509', 'node-forge', 'ioredis', 'tldts'])
    t.notOk(packages.includes(name), name)
})

t.test('what signs, and what speaks ACME or Redis, is loaded when it is needed', async (t) => {
  const packages = await packagesOf('server.ts')
  t.ok(packages.includes('prom-client'), 'it was looked at')
  for (const name of ['acme-client', 'axios', '@peculiar/x509', 'node-forge', 'ioredis'])
    t.notOk(packages.includes(name), name)
})
