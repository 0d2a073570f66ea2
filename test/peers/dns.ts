/** Pebble's companion pebble-challtestsrv as the DNS that the tests' CAs resolve and validate with. */
import { exchange } from './exchange.ts'
import { freePort, Peer } from './process.ts'

export interface CaaRecord {
  readonly tag: string
  readonly value: string
}

export class Dns {
  /** `host:port`, TCP and UDP. */
  readonly address: string
  readonly #managementUrl: string
  readonly #peer: Peer

  constructor(address: string, managementUrl: string, peer: Peer) {
    this.address = address
    this.#managementUrl = managementUrl
    this.#peer = peer
  }

  /** Replaces the CAA records of a host. */
  async addCaa(host: string, policies: readonly CaaRecord[]): Promise<void> {
    await this.#manage('/add-caa', { host: `${host}.`, policies })
  }

  /** Removes them. */
  async clearCaa(host: string): Promise<void> {
    await this.#manage('/clear-caa', { host: `${host}.` })
  }

  /** Replaces the addresses of a host; every other name is at 127.0.0.1. */
  async addA(host: string, addresses: readonly string[]): Promise<void> {
    await this.#manage('/add-a', { host: `${host}.`, addresses })
  }

  /** Every other record of the host is at its target. */
  async addCname(host: string, target: string): Promise<void> {
    await this.#manage('/set-cname', { host: `${host}.`, target: `${target}.` })
  }

  stop(): Promise<void> {
    return this.#peer.stop()
  }

  async #manage(path: string, body: object): Promise<void> {
    const options = { method: 'POST', body: JSON.stringify(body) }
    const { status } = await exchange(this.#managementUrl + path, options)
    if (status !== 200) throw new Error(`pebble-challtestsrv answered ${status} to ${path}`)
  }
}

/** Answers `A 127.0.0.1` for every name, and no AAAA. */
export async function startDns(): Promise<Dns> {
  const port = await freePort()
  const managementPort = await freePort()
  const address = `127.0.0.1:${port}`
  const management = `127.0.0.1:${managementPort}`
  const off = ['-defaultIPv6', '', '-http01', '', '-https01', '', '-tlsalpn01', '']
  const peer = await Peer.start(
    'pebble-challtestsrv',
    ['-dns01', address, '-management', management, '-defaultIPv4', '127.0.0.1', ...off],
    { ports: [port, managementPort] },
  )
  return new Dns(address, `http://${management}`, peer)
}
