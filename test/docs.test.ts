/** What the documents tell people to write is valid. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { readJsonc } from '../src/config/jsonc.ts'
import { configSchema } from '../src/config/schema.ts'
import { hashPassword } from '../src/password.ts'

const ROOT = join(import.meta.dirname, '..')
const DOCUMENTS = ['README.md', ...readdirSync(join(ROOT, 'docs')).map((name) => `docs/${name}`)].filter(
  (path) => path.endsWith('.md') && path !== 'docs/config.md',
)
const HASH = await hashPassword('secret')
const SITE = { hosts: ['app.example.com'], upstreams: ['http://127.0.0.1:3000'] }

interface Snippet {
  readonly where: string
  readonly text: string
}

/** Of a fenced block in one of these languages. */
function blocks(...languages: readonly string[]): Snippet[] {
  return DOCUMENTS.flatMap((path) =>
    [...read(path).matchAll(/^```(\w+)\n([\s\S]*?)^```/gm)]
      .filter(([, language = '']) => languages.includes(language))
      .filter(([, , text = '']) => /"(?:sites|upstreams|notify)":/.test(text))
      .map(([, , text = ''], index) => ({ where: `${path}, block ${index + 1}`, text: filledIn(text) })),
  )
}

/** `"key": …` in backquotes, wherever it stands. */
function fragments(): Snippet[] {
  return DOCUMENTS.flatMap((path) =>
    [...read(path).matchAll(/`("\w+": [^`]+)`/g)].map(([, text = '']) => ({
      where: `${path}: ${text}`,
      text: `{${filledIn(text)}}`,
    })),
  )
}

/** With a value for each variable, and for what is left out. */
function filledIn(text: string): string {
  return text
    .replaceAll('$scrypt$…', HASH)
    .replaceAll(/\$\{\w+\}/g, 'c2VjcmV0LXNlY3JldC1zZWNyZXQ')
    .replaceAll('…', 'x')
}

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8')
}

/** Why no place in a config takes these keys; undefined: one does. */
function objection(value: Record<string, unknown>): string | undefined {
  const places = [
    value,
    { sites: [SITE], ...value },
    { sites: [{ ...SITE, ...value }] },
    { sites: [{ hosts: SITE.hosts, ...value }] },
    { sites: [{ ...SITE, tls: value }] },
    { sites: [{ ...SITE, tls: { clientCertificates: { ca: 'clients.pem', ...value } } }] },
    { sites: [{ ...SITE, rateLimit: { requests: 1, per: '1s', ...value } }] },
    { sites: [SITE], notify: [{ url: 'https://hooks.example.com/x', ...value }] },
  ]
  const results = places.map((place) => configSchema.safeParse(place))
  if (results.some(({ success }) => success)) return undefined
  return results.map(({ error }) => error?.issues.map(({ message }) => message).join('; ')).join(' | ')
}

t.test('every config in the documents is one', async (t) => {
  const configs = [...blocks('json', 'jsonc'), ...fragments()]
  t.ok(configs.length > 40, 'they were found')
  for (const { where, text } of configs) {
    // Sites of one block may stand below one another.
    const [whole, list] = [
      readJsonc(text),
      readJsonc(`{"sites": [${text.replaceAll(/\}\n(?=\/\/|\{)/g, '},\n')}]}`),
    ]
    const { value } = whole.problems.length === 0 ? whole : list
    t.equal(objection(value as Record<string, unknown>), undefined, where)
  }
})

t.test('every file that the documents link to is there', async (t) => {
  for (const path of [...DOCUMENTS, 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md'])
    for (const [, target = ''] of read(path).matchAll(/\]\(([^)#:\s]+)(?:#[^)]*)?\)/g))
      t.ok(existsSync(join(ROOT, dirname(path), target)), `${path}: ${target}`)
})
