/** Certificates with the timestamps of Certificate Transparency logs (RFC 6962), which no CA here can have. */
import { generateKeyPem } from '../../src/cert/x509.ts'
import { type Credentials, signOdd } from './openssl.ts'

/** What a log has signed, whose identifier is `log` over and over. The signature is not one. */
export function timestampOf(log: number, { version = 0, time = 1n } = {}): Buffer {
  const moment = Buffer.alloc(8)
  moment.writeBigUInt64BE(time)
  const [noExtensions, signature] = [vector(Buffer.alloc(0)), vector(Buffer.alloc(70, 1))]
  return Buffer.concat([
    Buffer.of(version),
    Buffer.alloc(32, log),
    moment,
    noExtensions,
    Buffer.of(4, 3),
    signature,
  ])
}

/** A leaf for `app.example.com`, valid from now. `list`: instead of a well-formed one of `timestamps`. */
export async function signWithTimestamps(
  timestamps: readonly Buffer[],
  {
    days,
    issuer,
    list = vector(Buffer.concat(timestamps.map(vector))),
  }: { days: number; issuer?: Credentials; list?: Buffer },
): Promise<Credentials> {
  const octets = Buffer.concat([Buffer.of(0x04, 0x82, list.length >> 8, list.length & 0xff), list])
  return signOdd({
    subject: '/CN=app.example.com',
    extensions: [
      'subjectAltName=DNS:app.example.com',
      'extendedKeyUsage=serverAuth',
      `1.3.6.1.4.1.11129.2.4.2=DER:${octets.toString('hex')}`,
    ].join('\n'),
    keyPem: await generateKeyPem('ecdsa-p256'),
    more: ['-days', `${days}`],
    ...(issuer === undefined ? {} : { issuer }),
  })
}

/** With its length before it. */
function vector(content: Buffer): Buffer {
  return Buffer.concat([Buffer.of(content.length >> 8, content.length & 0xff), content])
}
