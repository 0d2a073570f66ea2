import { readFileSync } from 'node:fs'
import t from 'tap'
import { generatedFiles } from '../../src/config/docs.ts'
import { configJsonSchema, type JsonSchema } from '../../src/config/schema.ts'

t.test('the generated files are up to date', async (t) => {
  for (const [path, content] of generatedFiles())
    t.equal(readFileSync(path, 'utf8'), content, `${path}: run "npm run docs"`)
})

t.test('every key has a description, and no object takes keys that are not there', async (t) => {
  const visit = (node: JsonSchema, path: string): void => {
    for (const [key, child] of Object.entries(node.properties ?? {}) as [string, JsonSchema][])
      t.ok(child.description, `${path}.${key}`)
    if (node.properties !== undefined) t.equal(node.additionalProperties, false, path)
    const below = [
      ...Object.entries(node.properties ?? {}),
      ['items', node.items],
      ['*', node.additionalProperties],
    ] as const
    const forms = (node.anyOf ?? []).map((form, index) => [`form ${index}`, form] as const)
    for (const [key, child] of [...below, ...forms])
      if (typeof child === 'object') visit(child as JsonSchema, `${path}.${key}`)
  }
  visit(configJsonSchema(), 'config')
})

t.test('an editor accepts a variable wherever a string may stand', async (t) => {
  const schema = JSON.stringify(configJsonSchema(), (key, value) =>
    key === 'propertyNames' ? undefined : value,
  )
  for (const pattern of schema.matchAll(/"pattern":"((?:[^"\\]|\\.)*)"/g))
    t.match(`$${'{NAME}'}`, new RegExp(JSON.parse(`"${pattern[1]}"`)))
  t.notMatch(schema, /"format":"/)
  t.notMatch(schema, /"type":"string","enum"/)
})
