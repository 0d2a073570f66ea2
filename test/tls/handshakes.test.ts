/** Handshakes that go wrong, and what is handed on when they go right. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import t from 'tap'
import { ask, dial, handshakes, type Rig, refusal, startRig, until } from './rig.ts'

const servername = 'app.example.com'

/** The head of a record that never comes. */
const HALF_A_HELLO = Buffer.of(22, 3, 1, 2, 0, 1)

t.test('a handshake that takes too long is cut off', async (t) => {
  const rig = await startRig(t, { policy: { handshakeTimeoutMs: 30 } })
  for (const sent of ['', HALF_A_HELLO]) {
    const socket = await dialRaw(t, rig)
    socket.write(sent)
    await once(socket.resume(), 'close')
  }
  t.match(await handshakes(rig), { failed: 2 })
})

t.test('an established connection outlives the time for handshakes', async (t) => {
  const rig = await startRig(t, {
    policy: { handshakeTimeoutMs: 200 },
    serve: (socket) => socket.pipe(socket),
  })
  await rig.publish(servername)
  const socket = await dial(rig, { servername })
  // Connected after it, and cut off: by then the time is over for the first one too.
  await once((await dialRaw(t, rig)).resume(), 'close')
  socket.write('still here')
  t.equal(String(await once(socket, 'data')), 'still here')
})

t.test('what is no TLS is refused', async (t) => {
  const rig = await startRig(t)
  const socket = await dialRaw(t, rig)
  socket.write('GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n')
  await once(socket.resume(), 'close')
  t.match(await handshakes(rig), { failed: 1 })
})

t.test('a client that goes away during the handshake is counted', async (t) => {
  const rig = await startRig(t)
  const socket = await dialRaw(t, rig)
  socket.end(HALF_A_HELLO)
  await until(async () => (await handshakes(rig)).failed === 1)
})

t.test('failed handshakes are logged at debug, and no louder', async (t) => {
  const rig = await startRig(t)
  await refusal(rig, { servername })
  await until(() => rig.log.lines.length > 0)
  t.match(rig.log.lines, [{ level: 20, msg: 'TLS handshake failed', err: { message: /app.example.com/ } }])
  t.equal(rig.log.lines.length, 1)
})

t.test('in a flood of handshakes the oldest is given up', async (t) => {
  const rig = await startRig(t, { maxHandshakes: 3 })
  await rig.publish(servername)
  const flood = [await dialRaw(t, rig), await dialRaw(t, rig), await dialRaw(t, rig)]
  const closed: number[] = []
  for (const [index, socket] of flood.entries()) socket.resume().on('close', () => closed.push(index))
  t.equal(await refusal(rig, { servername }), undefined)
  await until(() => closed.length > 0 && rig.handedOn.length === 1)
  t.strictSame(closed, [0])
  // What was served left its place to others.
  t.equal(await refusal(rig, { servername }), undefined)
  t.strictSame(closed, [0])
})

t.test('a connection is told of in full', async (t) => {
  const rig = await startRig(t)
  await rig.publish(servername)
  const { connection } = await ask(rig, { servername, ALPNProtocols: ['h2'] })
  t.strictSame(connection, {
    secure: true,
    serverName: servername,
    protocol: 'h2',
    clientAddress: '127.0.0.1',
    clientPort: rig.handedOn[0]?.clientPort,
    localAddress: '127.0.0.1',
    localPort: rig.port,
  })
})

t.test('a socket is handed on without listeners of ours, half-open and with nothing read', async (t) => {
  let handed: Socket | undefined
  const rig = await startRig(t, { serve: (socket) => (handed = socket) })
  await rig.publish(servername)
  const client = await dial(rig, { servername })
  client.write('first')
  await until(() => handed !== undefined)
  const socket = handed as unknown as Socket
  for (const event of ['data', 'readable', 'timeout', 'drain', 'secure'])
    t.equal(socket.listenerCount(event), event === 'secure' ? 1 : 0, event)
  t.equal(socket.timeout ?? 0, 0)
  t.ok(socket.allowHalfOpen)
  t.equal(String(await once(socket, 'data')), 'first')
})

t.test('a client that has ended its side still gets its answer', async (t) => {
  const rig = await startRig(t, {
    serve: (socket) => void socket.resume().on('end', () => socket.end('the answer')),
  })
  await rig.publish(servername)
  const client = await dial(rig, { servername })
  client.end()
  t.equal(String(await once(client, 'data')), 'the answer')
})

t.test('damage to an established connection ends it with an error for its owner', async (t) => {
  const errors: Error[] = []
  const rig = await startRig(t, {
    serve: (socket) => socket.on('error', (error) => errors.push(error)).resume(),
  })
  await rig.publish(servername)
  const raw = await dialRaw(t, rig)
  const client = connectTls({ socket: raw, servername, ca: rig.authority.rootPem })
  client.on('error', () => {})
  await until(() => rig.handedOn.length === 1)
  raw.write('no TLS record')
  await until(() => errors.length > 0)
  t.match(errors, [{ code: /^ERR_SSL_/ }])
})

async function dialRaw(t: { teardown(task: () => void): void }, rig: Rig): Promise<Socket> {
  const socket = connect({ port: rig.port, host: '127.0.0.1' })
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}
