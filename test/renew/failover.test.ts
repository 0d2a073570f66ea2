/** A failover as large as a rate limit makes it long: `failover.ts`, in a thread of its own. */
import t from 'tap'
import { messageOfThread } from '../support/thread.ts'
import { HOSTS, LIMIT, type Outcome } from './failover.ts'

t.test('in a failover of five thousand hosts', async (t) => {
  const outcome = await messageOfThread<Outcome>(new URL('failover.ts', import.meta.url))
  t.equal(outcome.served, HOSTS, 'each is served from the second CA, as soon as its limit allows')
  t.equal(outcome.orders, HOSTS, 'none is ordered twice')
  t.equal(outcome.mostInAWindow, LIMIT.limit, 'the second CA is asked within its limit, and uses it')
  // Those that are asked beside one another, or find out that the first CA is still down.
  t.ok(outcome.mostOvertaking <= 64, `the most urgent first: ${outcome.mostOvertaking} came before one`)
})
