/** Which of several chains is taken (RFC 8555 section 7.4.2), from a Pebble with two roots. */
import { X509Certificate } from 'node:crypto'
import t from 'tap'
import { commonNameOf } from '../../src/cert/certificate.ts'
import { exchange } from '../peers/exchange.ts'
import { requestFor, startWorld } from './acme-world.ts'

const world = await startWorld(t)
const forever = new AbortController().signal
const pebble = await world.startPebble({ env: { PEBBLE_ALTERNATE_ROOTS: '2' } })
const roots = await Promise.all(
  [0, 1, 2].map(async (index) => {
    const { body } = await exchange(`${pebble.managementUrl}/roots/${index}`, { ca: pebble.minicaPem })
    return new X509Certificate(body)
  }),
)
const [first, , last] = roots.map(({ subject }) => commonNameOf(subject))

async function rootOfChain(preferredRoot: string | undefined): Promise<string> {
  const issuer = await world.issuer(pebble, { trust: roots, preferredRoot })
  const { chain } = await issuer.issue(requestFor(['app.example.com']), forever)
  return commonNameOf(chain.at(-1)?.issuer)
}

t.test('the default where none is preferred', async (t) => {
  t.equal(await rootOfChain(undefined), first)
})

t.test('the one to the preferred root', async (t) => {
  t.not(last, first)
  t.equal(await rootOfChain(last), last)
  t.notOk(world.log.warnings().length, 'nothing to tell')
})

t.test('the default where none leads to the preferred root, told once', async (t) => {
  t.equal(await rootOfChain('Root of Nowhere'), first)
  t.match(
    world.log.warnings().map(({ msg }) => msg),
    [/^pebble: has no chain to Root of Nowhere \(it has .+, .+, .+\), taking the default$/],
  )
})
