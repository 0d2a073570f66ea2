/**
 * Writes `proxy.config.schema.json` and `docs/config.md` from the schema and the presets: `npm run docs`.
 * Not part of the running program; `test/config/docs.test.ts` fails when the two files are out of date.
 */
import { writeFileSync } from 'node:fs'
import { CA_PRESETS } from './presets.ts'
import { configJsonSchema, formsOf, type JsonSchema } from './schema.ts'

/** The generated files by their path in the repository. */
export function generatedFiles(): ReadonlyMap<string, string> {
  const schema = configJsonSchema()
  return new Map([
    ['proxy.config.schema.json', `${JSON.stringify(schema, null, 2)}\n`],
    ['docs/config.md', reference(schema)],
  ])
}

const INTRODUCTION = `# Configuration

Generated from \`src/config/schema.ts\` by \`npm run docs\`.

Holdfast reads \`proxy.config.json\` in its working directory, or the file of \`--config\`. \`holdfast check\` names every
mistake in it at once. The running proxy takes a changed file over by itself (or at SIGHUP); a bad one changes nothing.

- The file is JSON; comments (\`//\`, \`/* */\`) and trailing commas are welcome. With
  \`"$schema": "./proxy.config.schema.json"\` an editor completes and checks it.
- \`\${NAME}\` in a value reads the environment, \`\${NAME:-default}\` too when it is unset or empty; \`$\${\` is a plain \`\${\`.
- A relative path starts at the folder of the file. A duration is a number and a unit: \`"30s"\`, \`"5m"\`, \`"12h"\`, \`"90d"\`.
- Most sites need two keys:

\`\`\`json
{
  "cas": { "letsencrypt": { "contact": ["ops@example.com"] } },
  "sites": [{ "hosts": ["app.example.com"], "upstreams": ["http://127.0.0.1:3000"] }]
}
\`\`\`

## Without a file

A sidecar needs none. Lists are separated by commas or spaces. Other variables that begin with \`HOLDFAST_\` are refused, so that a mistyped
one is not left aside; those that Kubernetes sets for a Service of that name are not.

| variable | meaning |
| --- | --- |
| \`HOLDFAST_HOSTS\` | Hosts to serve. Turns this mode on, where there is no \`--config\` and no \`proxy.config.json\`. |
| \`HOLDFAST_UPSTREAMS\` | Where requests go, such as \`http://app:3000\`. |
| \`HOLDFAST_CONTACT\` | E-mail addresses that the CAs may write to. |
| \`HOLDFAST_CAS\` | CAs in order of preference: presets, \`internal\`, or \`https://\` URLs of ACME directories. Default: \`letsencrypt\` alone; name two, so that each stands in for the other. |
| \`HOLDFAST_STORE\` | As \`store\` below. |
| \`ZEROSSL_KID\`, \`ZEROSSL_HMAC\` | External account binding; other CAs by their own name, as in \`GOOGLE_KID\`. |
`

function reference(schema: JsonSchema): string {
  const keys = Object.entries(schema.properties ?? {}) as [string, JsonSchema][]
  const required = new Set(schema.required)
  const single = keys.filter(([, node]) => membersOf(node) === undefined)
  const groups = keys.filter(([, node]) => membersOf(node) !== undefined)
  return [
    INTRODUCTION,
    `## At the top\n\n${table(single.flatMap(([key, node]) => rowsOf(key, node, required.has(key))))}`,
    ...groups.map(([key, node]) => {
      const rows = rowsOf(key, node, required.has(key)).slice(1)
      return `## \`${key}\`\n\n${node.description ?? ''}\n\n${table(rows)}${key === 'cas' ? presets() : ''}`
    }),
  ].join('\n')
}

type Row = readonly [key: string, type: string, byDefault: string, meaning: string]

function rowsOf(path: string, node: JsonSchema, required: boolean): Row[] {
  const row = [`\`${path}\``, typeOf(node), defaultOf(node, required), node.description ?? ''] as const
  const members = membersOf(node)
  if (members === undefined) return [row]
  const { schema, suffix } = members
  const needed = new Set(schema.required)
  const below = Object.entries(schema.properties ?? {}) as [string, JsonSchema][]
  return [row, ...below.flatMap(([key, child]) => rowsOf(`${path}${suffix}.${key}`, child, needed.has(key)))]
}

/** The object whose keys are documented below a node: itself, its items, its entries, or one of its forms. */
function membersOf(node: JsonSchema): { schema: JsonSchema; suffix: string } | undefined {
  if (node.properties !== undefined) return { schema: node, suffix: '' }
  const items = node.items as JsonSchema | undefined
  if (items?.properties !== undefined) return { schema: items, suffix: '[]' }
  const entries = node.additionalProperties
  if (typeof entries === 'object') return { schema: entries, suffix: '.NAME' }
  const form = formsOf(node).find((each) => each.properties !== undefined)
  return form === undefined ? undefined : { schema: form, suffix: '' }
}

function typeOf(node: JsonSchema): string {
  if (node.title !== undefined) return node.title
  if (node.const !== undefined) return code(node.const)
  if (node.enum !== undefined) return node.enum.map(code).join(', ')
  if (node.type === 'array') return `list of ${typeOf(node.items as JsonSchema)}`
  const forms = formsOf(node).filter((form) => form.enum !== undefined || form.pattern === undefined)
  if (forms.length > 0) return forms.map(typeOf).join(', ')
  return node.type === 'boolean' ? '`true`, `false`' : String(node.type)
}

function defaultOf(node: JsonSchema, required: boolean): string {
  if (required) return 'required'
  const isGroup = node.type === 'object' || node.default === undefined
  return isGroup ? '' : code(node.default)
}

function code(value: unknown): string {
  return `\`${JSON.stringify(value)}\``
}

function table(rows: readonly Row[]): string {
  const lines = rows.map((row) => `| ${row.join(' | ')} |`)
  return ['| key | type | default | meaning |', '| --- | --- | --- | --- |', ...lines, ''].join('\n')
}

function presets(): string {
  const rows = Object.entries(CA_PRESETS).map(
    ([name, { directory, eab, caaIdentities }]) =>
      `| \`${name}\` | ${directory} | ${eab === 'required' ? 'required' : ''} | ${caaIdentities.join(', ')} |`,
  )
  const head = ['', '| preset | directory | `eab` | in CAA records |', '| --- | --- | --- | --- |']
  return [...head, ...rows, ''].join('\n')
}

if (import.meta.main) for (const [path, content] of generatedFiles()) writeFileSync(path, content)
