import t from 'tap'
import type { DatedEvent } from '../../src/events.ts'
import { composeMessage } from '../../src/notify/message.ts'
import { AT, degraded } from '../support/events.ts'

function compose(last: DatedEvent, hosts: string[] = []) {
  return composeMessage('id', { last, count: 1, since: AT, hosts: new Set(hosts) })
}

t.test('an outage says what is lost if it lasts', async (t) => {
  const exposure = '12 hosts expire from Tue 2026-11-24 14:00 UTC on'
  t.equal(
    compose({ ...degraded(), exposure } as DatedEvent).text,
    `letsencrypt: answered 503. If letsencrypt stays down: ${exposure}.`,
  )
  t.match(compose(degraded()).text, /Other CAs can stand in for every host\./)
})

t.test('a switch says from what to what', async (t) => {
  const live = { role: 'live', source: 'a', fingerprint: '00', notAfter: AT } as const
  const message = compose(
    {
      type: 'certificate.switched',
      host: 'x.example',
      from: live,
      to: { ...live, role: 'standby', source: 'b' },
      at: AT,
    },
    ['x.example'],
  )
  t.equal(message.title, 'x.example: another certificate is served')
  t.equal(message.text, 'From the live certificate (a) to the standby certificate (b).')
})
