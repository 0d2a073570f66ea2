import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { VirtualClock } from '../../src/commands/simulate/virtual-clock.ts'
import { ask, dial, LOOPBACK, startRig, textOf, until } from './rig.ts'

const HEADER = 'PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n'

t.test('a listed proxy tells the client of TLS connections', async (t) => {
  const rig = await startRig(t, { policy: { proxyProtocol: ['127.0.0.0/8'] } })
  await rig.publish('app.example.com')
  const socket = connect(rig.port, '127.0.0.1')
  socket.write(HEADER)
  const client = await dial(rig, { socket, servername: 'app.example.com' })
  t.equal(JSON.parse(await textOf(client)).clientAddress, '192.0.2.7')
})

t.test('a listed proxy that sends no header is refused, and the log says what to do', async (t) => {
  const rig = await startRig(t, { policy: { proxyProtocol: ['127.0.0.1'] } })
  const socket = connect(rig.port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write('GET / HTTP/1.1\r\n\r\n')
  await once(socket, 'close')
  t.strictSame(rig.handedOn, [])
})

t.test('others are taken for what they are', async (t) => {
  const rig = await startRig(t, { policy: { proxyProtocol: ['192.0.2.0/24'] } })
  await rig.publish('app.example.com')
  t.equal((await ask(rig, { servername: 'app.example.com' })).connection.clientAddress, '127.0.0.1')
  const liar = connect(rig.port, '127.0.0.1')
  liar.on('error', () => {})
  liar.end(HEADER)
  liar.resume()
  let closed = false
  liar.on('close', () => {
    closed = true
  })
  await until(() => closed)
  t.equal(rig.handedOn.length, 1)
})

t.test('a listed proxy tells the client of plain connections, and where it has connected to', async (t) => {
  const rig = await startRig(t, { policy: { http: [LOOPBACK], proxyProtocol: ['127.0.0.1'] } })
  const port = rig.listener.addresses().http[0]?.port ?? 0
  const socket = connect(port, '127.0.0.1')
  socket.write(`${HEADER}GET / HTTP/1.1\r\n`)
  t.match(JSON.parse(await textOf(socket)), {
    secure: false,
    clientAddress: '192.0.2.7',
    clientPort: 1234,
    localAddress: '192.0.2.8',
    localPort: 443,
  })
})

t.test('a proxy that is slow with its header is given up, however many octets it has sent', async (t) => {
  let armed = 0
  const clock = new (class extends VirtualClock {
    override after(delayMs: number, task: () => void): () => void {
      armed++
      return super.after(delayMs, task)
    }
  })()
  const rig = await startRig(t, {
    clock,
    policy: { http: [LOOPBACK], proxyProtocol: ['127.0.0.1'], handshakeTimeoutMs: 15_000 },
  })
  for (const port of [rig.port, rig.listener.addresses().http[0]?.port ?? 0]) {
    const before = armed
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => {})
    socket.write(HEADER.slice(0, 20))
    await until(() => armed > before)
    await clock.advance(14_999)
    t.notOk(socket.destroyed)
    const closed = once(socket.resume(), 'close')
    await clock.advance(1)
    await closed
  }
  t.strictSame(rig.handedOn, [])
})
