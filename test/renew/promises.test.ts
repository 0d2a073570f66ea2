/** The promises of `promises.ts`, each in a thread of its own. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { PROMISES } from './promises.ts'

for (const { name, runs } of PROMISES) {
  t.test(`certificates: ${name}`, async (t) => {
    const worker = new Worker(new URL('promises.ts', import.meta.url), {
      workerData: name,
      execArgv: [],
      env: { NODE_OPTIONS: '' },
    })
    const [failure] = await once(worker, 'message')
    t.equal(failure, '', `${runs} runs`)
  })
}
