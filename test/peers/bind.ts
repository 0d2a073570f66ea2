/** Debian's bind9 with zones of a test's own, authoritative for them and for nothing else. */
import { setTimeout as delay } from 'node:timers/promises'
import { freePort, Peer } from './process.ts'

export interface Bind {
  /** `host:port`, TCP and UDP. */
  readonly address: string
  stop(): Promise<void>
}

/** What every zone needs, and no test is about. */
const APEX = `$TTL 60
@ SOA ns.invalid. nobody.invalid. 1 60 60 60 60
@ NS ns.invalid.
`

/** @param zones name to records, as zone files have them; null: a zone that it has and cannot load, so that it fails */
export async function startBind(zones: Readonly<Record<string, string | null>>): Promise<Bind> {
  const port = await freePort()
  const control = `options {
  directory "."; pid-file none; session-keyfile none; recursion no; dnssec-validation no; notify no;
  listen-on port ${port} { 127.0.0.1; }; listen-on-v6 { none; };
};
controls { };
${Object.keys(zones)
  .map((name) => `zone "${name}" { type primary; file "${name}.zone"; };`)
  .join('\n')}
`
  const files = Object.entries(zones).map(([name, records]) => [
    `${name}.zone`,
    records === null ? 'no zone' : APEX + records,
  ])
  const peer = await Peer.start('named', ['-g', '-c', 'named.conf'], {
    env: { PATH: `${process.env.PATH}:/usr/sbin` },
    files: { 'named.conf': control, ...Object.fromEntries(files) },
    ports: [port],
  })
  // It listens before its zones are loaded.
  while (!/ running$/m.test(peer.log())) await delay(10)
  return { address: `127.0.0.1:${port}`, stop: () => peer.stop() }
}
