/** The promises of `promises.ts`, each in a thread of its own. */
import t from 'tap'
import { messageOfThread } from '../support/thread.ts'
import { PROMISES } from './promises.ts'

for (const { name, runs } of PROMISES) {
  t.test(`certificates: ${name}`, async (t) => {
    const failure = await messageOfThread<string>(new URL('promises.ts', import.meta.url), name)
    t.equal(failure, '', `${runs} runs`)
  })
}
