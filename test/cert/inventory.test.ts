import t from 'tap'
import { Certificate } from '../../src/cert/certificate.ts'
import { type Change, Inventory } from '../../src/cert/inventory.ts'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { DAY } from '../../src/time.ts'
import { makeCertificate } from '../support/certificates.ts'

const START = Date.parse('2026-06-19T00:00:00Z')

function make(names: readonly string[], days: number): Promise<Certificate> {
  return makeCertificate({ names, days, notBefore: START })
}

const [short, long, wildcard] = await Promise.all([
  make(['app.example.com'], 10),
  make(['app.example.com'], 90),
  make(['*.example.com'], 90),
])

function makeInventory() {
  const clock = new VirtualClock(START)
  const inventory = new Inventory(clock)
  const changes: Change[] = []
  inventory.onChange((change) => changes.push(change))
  return { clock, inventory, changes }
}

t.test('finds what was published under a name, and nothing under another', async (t) => {
  const { inventory } = makeInventory()
  inventory.publish('app.example.com', 'live', long)
  t.equal(inventory.find('app.example.com'), long)
  t.equal(inventory.find('example.com'), undefined)
  t.equal(inventory.find('a.app.example.com'), undefined)
})

t.test('finds a wildcard for names of one label more, and for no others', async (t) => {
  const { inventory } = makeInventory()
  inventory.publish('*.example.com', 'live', wildcard)
  t.equal(inventory.find('app.example.com'), wildcard)
  for (const name of ['example.com', '.example.com', 'a.b.example.com', 'com', ''])
    t.equal(inventory.find(name), undefined, name)
})

t.test('prefers the exact name to the wildcard', async (t) => {
  const { inventory } = makeInventory()
  inventory.publish('*.example.com', 'live', wildcard)
  inventory.publish('app.example.com', 'live', short)
  t.equal(inventory.find('app.example.com'), short)
  t.equal(inventory.find('other.example.com'), wildcard)
})

t.test('prefers a valid wildcard to an exact name that has expired', async (t) => {
  const { clock, inventory } = makeInventory()
  inventory.publish('*.example.com', 'live', wildcard)
  inventory.publish('app.example.com', 'live', short)
  clock.jump(10 * DAY)
  t.equal(inventory.find('app.example.com'), wildcard)
  clock.jump(100 * DAY)
  t.equal(inventory.find('app.example.com'), short)
})

t.test('serves live, then standby, then interim', async (t) => {
  const { inventory } = makeInventory()
  const roles = ['interim', 'standby', 'live'] as const
  for (const [index, certificate] of [long, wildcard, short].entries()) {
    inventory.publish('app.example.com', roles[index] as (typeof roles)[number], certificate)
    t.equal(inventory.find('app.example.com'), certificate)
  }
})

t.test('switches to the standby when the live one expires, and back when the clock does', async (t) => {
  const { clock, inventory } = makeInventory()
  inventory.publish('app.example.com', 'live', short)
  inventory.publish('app.example.com', 'standby', long)
  clock.jump(10 * DAY)
  t.equal(inventory.find('app.example.com'), long)
  clock.jump(-DAY)
  t.equal(inventory.find('app.example.com'), short)
})

t.test('serves an expired certificate when there is nothing better', async (t) => {
  const { clock, inventory } = makeInventory()
  inventory.publish('app.example.com', 'live', short)
  clock.jump(365 * DAY)
  t.equal(inventory.find('app.example.com'), short)
})

t.test('tells of what is published, once', async (t) => {
  const { inventory, changes } = makeInventory()
  inventory.publish('app.example.com', 'live', short)
  inventory.publish('app.example.com', 'live', short)
  inventory.publish('app.example.com', 'live', long)
  t.same(
    changes.map(({ host, role, certificate }) => [host, role, certificate?.fingerprint]),
    [
      ['app.example.com', 'live', short.fingerprint],
      ['app.example.com', 'live', long.fingerprint],
    ],
  )
})

t.test('serves the same leaf below another chain once it is published', async (t) => {
  const { inventory } = makeInventory()
  const leafOnly = new Certificate(long.leaf.toString(), long.keyPem, 'test', 'a test')
  inventory.publish('app.example.com', 'live', leafOnly)
  inventory.publish('app.example.com', 'live', long)
  t.equal(inventory.find('app.example.com'), long)
})

t.test('withdraws one role, or a whole host, and tells of each', async (t) => {
  const { inventory, changes } = makeInventory()
  inventory.publish('app.example.com', 'live', short)
  inventory.publish('app.example.com', 'standby', long)
  inventory.withdraw('app.example.com', 'live')
  t.equal(inventory.find('app.example.com'), long)
  t.same(inventory.holding('app.example.com'), { standby: long })
  inventory.publish('app.example.com', 'live', short)
  inventory.withdraw('app.example.com')
  inventory.withdraw('app.example.com')
  t.equal(inventory.find('app.example.com'), undefined)
  t.same(inventory.hosts(), [])
  t.same(
    changes.filter(({ certificate }) => certificate === undefined).map(({ role }) => role),
    ['live', 'live', 'standby'],
  )
})

t.test('a name whose exact holding was withdrawn is the wildcard’s again', async (t) => {
  const { inventory } = makeInventory()
  inventory.publish('*.example.com', 'live', wildcard)
  inventory.publish('app.example.com', 'live', short)
  inventory.withdraw('app.example.com', 'live')
  t.equal(inventory.find('app.example.com'), wildcard)
})

t.test('a listener that has left hears nothing', async (t) => {
  const { inventory } = makeInventory()
  let heard = 0
  const leave = inventory.onChange(() => heard++)
  inventory.publish('app.example.com', 'live', short)
  leave()
  inventory.publish('app.example.com', 'live', long)
  t.equal(heard, 1)
})

t.test('lists its hosts by the names of the config', async (t) => {
  const { inventory } = makeInventory()
  inventory.publish('app.example.com', 'live', short)
  inventory.publish('*.example.com', 'interim', wildcard)
  t.same(inventory.hosts(), ['app.example.com', '*.example.com'])
  t.same(inventory.holding('nobody.example'), {})
})
