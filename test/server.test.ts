/** What the whole server says of its config as it starts. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import t from 'tap'
import { loadConfig } from '../src/config/load.ts'
import { Server } from '../src/server.ts'
import { portOf } from './http/front.ts'
import { memoryLog } from './support/log.ts'

t.test('hosts that depend on one public CA are told at the start, with what to do', async (t) => {
  // On a port that is taken nothing gets as far as asking that CA.
  const taken = createServer().listen(0, '127.0.0.1')
  t.teardown(() => taken.close())
  await once(taken, 'listening')
  const upstreams = ['http://127.0.0.1:9']
  const folder = t.testdir({
    'proxy.config.json': JSON.stringify({
      listen: { https: [`127.0.0.1:${portOf(taken)}`], http: [], admin: false },
      sites: [{ hosts: ['a.example.com', 'b.example.com', 'localhost'], upstreams }],
    }),
  })
  const { log, warnings } = memoryLog()
  const server = await Server.create(await loadConfig(`${folder}/proxy.config.json`, {}), log)
  t.teardown(() => server.stop())
  await t.rejects(server.start(), { code: 'CONFIG_INVALID' })
  t.match(warnings(), [
    {
      ca: 'letsencrypt',
      msg: /^nobody but letsencrypt can issue for a\.example\.com and 1 more: name a second CA /,
    },
  ])
})
