/** A TLS listener with `Streams` behind it, and real TCP upstreams. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'
import { type Balancing, DEFAULT_BALANCING } from '../../src/config/balancing.ts'
import { parseUpstream, type Upstream, type UpstreamConfig } from '../../src/config/schema.ts'
import type { Stream } from '../../src/config/sites.ts'
import { Streams, type StreamsOptions } from '../../src/tcp/streams.ts'
import { SystemClock } from '../../src/time.ts'
import type { ListenerPolicy } from '../../src/tls/listener.ts'
import { Names } from '../../src/upstreams/names.ts'
import { type MemoryLog, memoryLog } from '../support/log.ts'
import { type Rig, startRig } from '../tls/rig.ts'

export interface StreamRig extends Rig {
  readonly streams: Streams
  readonly streamLog: MemoryLog
}

/** Each host with its stream; undefined: a site that speaks HTTP, whose connections are described. */
export async function startStreams(
  t: Test,
  hosts: Readonly<Record<string, Stream | undefined>>,
  options: Partial<StreamsOptions> = {},
  policy: Partial<ListenerPolicy> = {},
): Promise<StreamRig> {
  const streamLog = memoryLog()
  const timeouts = () => ({ connect: 5000, upgrade: 60_000 })
  const streams = new Streams({
    clock: new SystemClock(),
    names: new Names(),
    log: streamLog.log,
    timeouts,
    access: () => true,
    random: () => 0,
    ...options,
  })
  const sites = new Map(
    Object.entries(hosts).map(([host, stream]) => [host, stream === undefined ? {} : { stream }]),
  )
  streams.replace([...sites].map(([host, site]) => ({ hosts: [host], ...site })))
  t.teardown(() => streams.close())
  const rig = await startRig(t, {
    policy: { ...policy, sites },
    serve: (socket, connection) => {
      if (connection.stream === undefined) socket.end('HTTP')
      else streams.accept(socket, connection, connection.stream)
    },
  })
  for (const [host, stream] of Object.entries(hosts))
    if (stream?.mode !== 'passthrough') await rig.publish(host)
  return { ...rig, streams, streamLog }
}

/** A stream to these upstreams, in the mode `tcp` unless told otherwise. */
export function streamTo(
  upstreams: readonly (Upstream & Partial<UpstreamConfig>)[],
  { balancing, ...options }: Partial<Omit<Stream, 'balancing'>> & { balancing?: Partial<Balancing> } = {},
): Stream {
  return {
    mode: 'tcp',
    alpn: [],
    upstreams: upstreams.map((each) => ({ weight: 1, backup: false, maxConnections: undefined, ...each })),
    balancing: { ...DEFAULT_BALANCING, ...balancing },
    proxyProtocol: undefined,
    ...options,
  }
}

/** Listens on a port of its own until the test is over. */
export async function startUpstream(t: Test, serve: (socket: Socket) => void): Promise<Upstream> {
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    serve(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return upstreamAt((server.address() as AddressInfo).port)
}

/** Nobody listens there. */
export async function deadUpstream(): Promise<Upstream> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return upstreamAt(port)
}

export function upstreamAt(port: number): Upstream {
  const upstream = parseUpstream(`tcp://127.0.0.1:${port}`)
  if (upstream === undefined) throw new Error('unreachable')
  return upstream
}

/** Sends everything back, and its end. */
export function echo(socket: Socket): void {
  socket.pipe(socket)
}

/** A plain connection to the listener's port. */
export function plain(rig: Rig): Socket {
  const socket = connect(rig.port, '127.0.0.1')
  socket.on('error', () => {})
  return socket
}
