/**
 * Password hashes in the PHC string format, by scrypt (RFC 7914): `$scrypt$ln=15,r=8,p=3$SALT$HASH`, Base64 without
 * padding. Made by `holdfast hash-password`, checked in the config, verified by `http/basic-auth.ts`.
 */
import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'

/** 32 MiB, and a fraction of a second of one core: what OWASP's password storage advice takes for the least. */
const COST = { ln: 15, r: 8, p: 3 }
const SALT_BYTES = 16
const HASH_BYTES = 32
/** What verifying may take, whatever a hash asks for. */
const MAX_MEMORY_BYTES = 128 * 2 ** 20

const FORMAT =
  /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})$/

export interface PasswordHash {
  readonly ln: number
  readonly r: number
  readonly p: number
  readonly salt: Buffer
  readonly hash: Buffer
}

const derive = promisify<string, Buffer, number, object, Buffer>(scrypt)

/** Undefined for what is none, or would cost too much to verify. */
export function parsePasswordHash(text: string): PasswordHash | undefined {
  const [, ln = '', r = '', p = '', salt = '', hash = ''] = FORMAT.exec(text) ?? []
  const cost = { ln: Number(ln), r: Number(r), p: Number(p) }
  if (cost.ln < 1 || cost.r < 1 || cost.p < 1 || memoryOf(cost) > MAX_MEMORY_BYTES) return undefined
  return { ...cost, salt: Buffer.from(salt, 'base64'), hash: Buffer.from(hash, 'base64') }
}

/** Takes its time on a thread of the pool. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(SALT_BYTES)
  const hash = await derivation(password, { ...COST, salt }, HASH_BYTES)
  return `$scrypt$ln=${COST.ln},r=${COST.r},p=${COST.p}$${unpadded(salt)}$${unpadded(hash)}`
}

/** Takes its time on a thread of the pool. */
export async function verifyPassword(password: string, expected: PasswordHash): Promise<boolean> {
  return timingSafeEqual(await derivation(password, expected, expected.hash.length), expected.hash)
}

/** RFC 7617 section 2.1: the same characters in the same form. */
function derivation(
  password: string,
  { ln, r, p, salt }: Omit<PasswordHash, 'hash'>,
  bytes: number,
): Promise<Buffer> {
  const maxmem = 2 * memoryOf({ ln, r, p })
  return derive(password.normalize('NFC'), salt, bytes, { N: 2 ** ln, r, p, maxmem })
}

function memoryOf({ ln, r, p }: typeof COST): number {
  return 128 * r * (2 ** ln + p)
}

function unpadded(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '')
}
