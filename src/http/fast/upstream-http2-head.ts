/**
 * Heads on their way between HTTP/1.1 lines and the header blocks of an HTTP/2 upstream (RFC 9113 section 8).
 *
 * A response's block is checked for what HTTP/2 asks of it and written as an HTTP/1.1 head, which `lexer.ts` then reads as
 * it reads every upstream's: one place decides what a response means.
 *
 * Used by `upstream-http2.ts`.
 */
import { createHash } from 'node:crypto'
import { HOP_BY_HOP, MAX_FIELDS, NOT_IN_TRAILERS } from '../headers.ts'
import type { FieldSink, HpackField } from './hpack.ts'
import { TOKEN, VALUE } from './octets.ts'

/** SETTINGS_MAX_HEADER_LIST_SIZE: as much as an HTTP/1.1 head may have. */
export const MAX_LIST_BYTES = 16 * 1024

/**
 * Lines for the block of a request whose HTTP/1.1 head this is. We take trailers from every upstream of HTTP/2.
 * `tunnel`: the head asks for a WebSocket, and becomes an extended CONNECT (RFC 8441 section 5).
 */
export function requestLines(head: Buffer, scheme: 'http' | 'https', tunnel: boolean): Buffer {
  const [requestLine = '', ...fields] = head.toString('latin1').split('\r\n')
  const [method = '', path = ''] = requestLine.split(' ')
  let authority = ''
  let lines = ''
  for (const field of fields) {
    const name = field.slice(0, field.indexOf(':')).toLowerCase()
    if (name === 'host') authority = field.slice(field.indexOf(':') + 1).trim()
    else if (tunnel && name === 'sec-websocket-key') continue
    else if (name !== '' && !HOP_BY_HOP.has(name)) lines += `${field}\r\n`
  }
  const how = tunnel ? ':method: CONNECT\r\n:protocol: websocket\r\n' : `:method: ${method}\r\n`
  const where = `:scheme: ${scheme}\r\n:authority: ${authority}\r\n:path: ${path}\r\n`
  return Buffer.from(`${how}${where}${lines}${tunnel ? '' : 'te: trailers\r\n'}`, 'latin1')
}

/** What a 101 says beyond a 2xx to an extended CONNECT, for the client whose HTTP/1.1 head this is (RFC 6455 section 4.2.2). */
export function switchingLines(head: Buffer): string {
  const [, key = ''] = /\r\nsec-websocket-key: *([^\r]*)/i.exec(head.toString('latin1')) ?? []
  const accept = createHash('sha1')
    .update(`${key.trim()}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
    .digest('base64')
  return `connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: ${accept}\r\n`
}

/** Without what has no meaning in a 2xx to CONNECT (RFC 9110 section 9.3.6), and what `switchingLines` has. */
export function tunnelLines(lines: string): string {
  return lines.replace(/^(content-length|sec-websocket-accept):.*\r\n/gm, '')
}

/** What one block of a response says; reused from block to block. */
export class Http2Response implements FieldSink {
  /** Why the block is malformed (section 8.1.1); empty when it is not. */
  fault = ''
  /** 0 in trailers. */
  status = 0
  hasLength = false
  /** `name: value` lines. */
  lines = ''
  #trailers = false
  #listBytes = 0
  #count = 0

  reset(trailers: boolean): void {
    this.fault = ''
    this.status = 0
    this.hasLength = false
    this.lines = ''
    this.#trailers = trailers
    this.#listBytes = 0
    this.#count = 0
  }

  onField({ name, value, size }: HpackField): void {
    this.#listBytes += size
    if (this.#listBytes > MAX_LIST_BYTES || ++this.#count > MAX_FIELDS)
      this.fault = 'too many or too large fields'
    // What is beyond the limit is not kept.
    if (this.fault !== '') return
    if (name.startsWith(':')) this.#takePseudo(name, value)
    else if (!isFieldName(name) || !consistsOf(VALUE, value)) this.fault = 'a field is malformed'
    else if (HOP_BY_HOP.has(name) && !name.startsWith('proxy-auth'))
      this.fault = `${name} has no place in HTTP/2`
    else if (this.#trailers) this.lines += NOT_IN_TRAILERS.has(name) ? '' : `${name}: ${value}\r\n`
    else {
      if (name === 'content-length') this.hasLength = true
      this.lines += `${name}: ${value}\r\n`
    }
  }

  /** After a block that is no trailers. */
  finish(): void {
    if (this.fault === '' && this.status === 0) this.fault = ':status is absent'
  }

  /** Section 8.3.2: :status, once, before all fields. */
  #takePseudo(name: string, value: string): void {
    const valid = name === ':status' && !this.#trailers && this.status === 0 && this.lines === ''
    if (valid && /^[1-5]\d\d$/.test(value) && value !== '101') this.status = Number(value)
    else this.fault = 'a pseudo-header is repeated, unknown or invalid'
  }
}

function isFieldName(name: string): boolean {
  return name !== '' && consistsOf(TOKEN, name) && !/[A-Z]/.test(name)
}

function consistsOf(table: Uint8Array, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (table[text.charCodeAt(i)] !== 1) return false
  return true
}
