/** Sockets: opened all or none, changed by a reload, closed. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { ConfigError } from '../../src/errors.ts'
import type { Listener, ListenerPolicy } from '../../src/tls/listener.ts'
import { ask, dial, LOOPBACK, refusal, startRig, textOf, until } from './rig.ts'

const servername = 'app.example.com'

t.test('plain connections are handed on as they come', async (t) => {
  const rig = await startRig(t, { policy: { http: [LOOPBACK] } })
  const port = portOf(rig.listener, 'http')
  const client = connect(port, '127.0.0.1')
  await once(client, 'connect')
  const clientPort = client.localPort
  t.strictSame(JSON.parse(await textOf(client)), {
    secure: false,
    protocol: 'http/1.1',
    clientAddress: '127.0.0.1',
    clientPort,
    localAddress: '127.0.0.1',
    localPort: port,
  })
})

t.test('a plain client that has ended its side still gets its answer', async (t) => {
  const rig = await startRig(t, {
    policy: { http: [LOOPBACK] },
    serve: (socket) => void socket.resume().on('end', () => setImmediate(() => socket.end('the answer'))),
  })
  const client = connect({ port: portOf(rig.listener, 'http'), host: '127.0.0.1', allowHalfOpen: true })
  client.end()
  t.equal(await textOf(client), 'the answer')
})

t.test('an address without a host takes IPv6 and IPv4', async (t) => {
  const rig = await startRig(t, { policy: { https: [{ host: undefined, port: 0 }] } })
  await rig.publish(servername)
  for (const host of ['127.0.0.1', '::1']) {
    const { connection } = await ask(rig, { host, servername })
    t.equal(connection.clientAddress, host)
  }
})

t.test('every IPv4 and every IPv6 address can be listed side by side', async (t) => {
  const { listener, policy } = await startRig(t, { policy: { https: [{ host: '0.0.0.0', port: 0 }] } })
  const port = portOf(listener, 'https')
  await t.resolves(listener.update({ ...policy, http: [{ host: '::', port }] }))
})

t.test('what cannot be had is told, each with what to do, and nothing stays open', async (t) => {
  const [first, second] = [await occupy(t), await occupy(t)]
  const free = await freePort()
  const https = [LOOPBACK, { host: '127.0.0.1', port: free }, { host: '127.0.0.1', port: first }]
  const http = [
    { host: '127.0.0.1', port: second },
    { host: '192.0.2.77', port: 80 },
  ]
  await t.rejects(startRig(t, { policy: { https, http } }), {
    name: 'ConfigError',
    problems: [
      {
        path: 'listen.https[2]',
        message: `127.0.0.1:${first} is in use by another program`,
        hint: /ss -ltnp 'sport = :\d+'/,
      },
      { path: 'listen.http[0]', message: `127.0.0.1:${second} is in use by another program` },
      { path: 'listen.http[1]', message: '192.0.2.77:80 is no address of this machine', hint: /ip address/ },
    ],
  })
  await t.rejects(dialPort(t, free), { code: 'ECONNREFUSED' })
})

t.test('a port below 1024 without the right to it', async (t) => {
  const module = new URL('../../src/tls/endpoint.ts', import.meta.url)
  const place = { scheme: 'https', address: { host: '127.0.0.1', port: 443 }, path: 'listen.https[0]' }
  const program = `
    import { Endpoint } from ${JSON.stringify(module)}
    console.log(JSON.stringify(await new Endpoint({ place: ${JSON.stringify(place)} }).open()))`
  const nobody = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], nobody)
  t.match(JSON.parse(await textOf(child.stdout as Socket)), {
    path: 'listen.https[0]',
    message: 'this user may not listen on 127.0.0.1:443',
    hint: /CAP_NET_BIND_SERVICE/,
  })
})

t.test('a reload opens and closes addresses, and leaves the others alone', async (t) => {
  const rig = await startRig(t, { policy: { http: [LOOPBACK] }, serve: (socket) => socket.pipe(socket) })
  await rig.publish(servername)
  const before = rig.listener.addresses()
  const established = await dial(rig, { servername })
  const added = await freePort()
  await rig.listener.update({
    ...rig.policy,
    https: [LOOPBACK, { host: '127.0.0.1', port: added }],
    http: [],
  })

  t.strictSame(rig.listener.addresses(), {
    https: [...before.https, { host: '127.0.0.1', port: added }],
    http: [],
  })
  t.equal(await refusal(rig, { servername }), undefined)
  t.equal(await refusal(rig, { servername, port: added }), undefined)
  await t.rejects(dialPort(t, before.http[0]?.port), { code: 'ECONNREFUSED' })

  await rig.listener.update({ ...rig.policy, https: [{ host: '127.0.0.1', port: added }], http: [] })
  await t.rejects(dialPort(t, rig.port), { code: 'ECONNREFUSED' })
  established.write('still here')
  t.equal(String(await once(established, 'data')), 'still here')
})

t.test('a reload that fails changes nothing', async (t) => {
  const taken = await occupy(t)
  const rig = await startRig(t, { policy: { http: [LOOPBACK] } })
  await rig.publish(servername)
  const before = rig.listener.addresses()
  const free = await freePort()
  const failing: ListenerPolicy = {
    ...rig.policy,
    minVersion: '1.3',
    https: [
      { host: '127.0.0.1', port: free },
      { host: '127.0.0.1', port: taken },
    ],
    http: [],
  }
  await t.rejects(rig.listener.update(failing), ConfigError)
  t.strictSame(rig.listener.addresses(), before)
  t.equal(await refusal(rig, { servername, maxVersion: 'TLSv1.2' }), undefined)
  await t.resolves(dialPort(t, before.http[0]?.port))
  await t.rejects(dialPort(t, free), { code: 'ECONNREFUSED' })
})

t.test('a reload may move from one address of a port to all of them, and back when that fails', async (t) => {
  const taken = await occupy(t)
  const port = await freePort()
  const one = { host: '127.0.0.1', port }
  const all = { host: undefined, port }
  const { listener, policy } = await startRig(t, { policy: { https: [one] } })
  const failing = { ...policy, https: [all], http: [{ host: '127.0.0.1', port: taken }] }
  await t.rejects(listener.update(failing), { message: /^listen\.http\[0\]/ })
  t.strictSame(listener.addresses(), { https: [one], http: [] })
  await t.resolves(dialPort(t, port))
  await listener.update({ ...policy, https: [all] })
  t.strictSame(listener.addresses(), { https: [all], http: [] })
})

t.test('a reload may turn a plain port into one for TLS', async (t) => {
  const port = await freePort()
  const rig = await startRig(t, { policy: { http: [{ host: '127.0.0.1', port }] } })
  await rig.publish(servername)
  await rig.listener.update({ ...rig.policy, https: [{ host: '127.0.0.1', port }], http: [] })
  t.equal((await ask(rig, { servername, port })).connection.secure, true)
})

t.test('a reload changes the oldest version and the default host', async (t) => {
  const rig = await startRig(t, { policy: { defaultHost: servername } })
  await rig.publish(servername)
  await rig.publish('other.example.com')
  const unnamed = { servername: '', checkServerIdentity: () => undefined }
  t.equal((await ask(rig, unnamed)).names, `DNS:${servername}`)
  await rig.listener.update({ ...rig.policy, defaultHost: 'other.example.com' })
  t.equal((await ask(rig, unnamed)).names, 'DNS:other.example.com')
  await rig.listener.update({ ...rig.policy, minVersion: '1.3' })
  for (const options of [{ servername }, unnamed]) {
    const code = await refusal(rig, { ...options, maxVersion: 'TLSv1.2' })
    t.equal(code, 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION')
  }
})

t.test('after it has stopped accepting, handshakes under way and connections go on', async (t) => {
  const rig = await startRig(t, { serve: (socket) => socket.pipe(socket) })
  await rig.publish(servername)
  const underWay = await dialPort(t, rig.port)
  // Accepted after the other one.
  const established = await dial(rig, { servername })
  rig.listener.stopAccepting()
  await t.rejects(dialPort(t, rig.port), { code: 'ECONNREFUSED' })
  t.strictSame(rig.listener.addresses(), { https: [], http: [] })
  for (const socket of [established, await dial(rig, { servername, socket: underWay })]) {
    socket.write('still here')
    t.equal(String(await once(socket, 'data')), 'still here')
  }
})

t.test('stopped, it ends handshakes under way, and leaves connections to their owners', async (t) => {
  const rig = await startRig(t, { serve: (socket) => socket.pipe(socket) })
  await rig.publish(servername)
  const underWay = await dialPort(t, rig.port)
  const established = await dial(rig, { servername })
  await until(() => rig.handedOn.length === 1)
  rig.listener.stop()
  await once(underWay.resume(), 'close')
  established.write('still here')
  t.equal(String(await once(established, 'data')), 'still here')
})

function portOf(listener: Listener, scheme: 'https' | 'http'): number {
  return listener.addresses()[scheme][0]?.port ?? 0
}

/** A port that another program listens on. */
async function occupy(t: Test): Promise<number> {
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

async function freePort(): Promise<number> {
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  await once(server.close(), 'close')
  return port
}

async function dialPort(t: Test, port = 0): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  await once(socket, 'connect')
  return socket
}
