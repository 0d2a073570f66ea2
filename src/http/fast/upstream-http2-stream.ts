/**
 * One exchange on an HTTP/2 connection to an upstream (RFC 9113 section 5.1): the request's body within the upstream's
 * windows, the response's content to the exchange, and credit for more once the client has taken it.
 *
 * Made by `upstream-http2.ts`, which hands it frames; an `UpstreamUser` drives it as it would an HTTP/1.1 connection.
 */
import { ERROR, MAX_FRAME_BYTES } from './frames.ts'
import type { Head } from './head.ts'
import { HeldPieces } from './held-pieces.ts'
import type { UpstreamConnection, UpstreamFault, UpstreamUser } from './upstream-connection.ts'
import { switchingLines } from './upstream-http2-head.ts'

/** What an upstream may send on a stream before the client has taken it. */
export const STREAM_WINDOW = 256 * 1024
const MAX_INTERIM_RESPONSES = 32

/** The connection, as its streams need it. */
export interface UpstreamStreamHost {
  sendWindow: number
  readonly congested: boolean
  readonly now: number
  /** Sends the request's head now, or once the upstream has said its settings. */
  open(stream: UpstreamHttp2Stream, head: Buffer, endStream: boolean): void
  data(streamId: number, bytes: Buffer, endStream: boolean): void
  trailers(streamId: number, lines: Buffer): void
  credit(streamId: number, bytes: number): void
  /** Calls `pump` when there may be room. */
  wait(stream: UpstreamHttp2Stream): void
  /** The stream is over; with an error, the upstream is told. */
  close(stream: UpstreamHttp2Stream, error: number | undefined): void
}

export class UpstreamHttp2Stream implements UpstreamConnection {
  readonly reused: boolean
  /** 0 until the request's head is sent. */
  id = 0
  sendWindow = 0
  /** Of a WebSocket: the lines with which its client is told of success; empty for other requests. */
  switching = ''
  receiveWindow = STREAM_WINDOW
  readonly #host: UpstreamStreamHost
  #user: UpstreamUser | undefined
  /** Body that the windows have no room for. */
  readonly #held = new HeldPieces()
  #ended = false
  #endSent = false
  #trailers: Buffer | undefined
  #responding = false
  #tunnel = false
  #interimResponses = 0
  /** Content that is still to come by Content-Length; -1 when that is not known. */
  #left = -1
  /** Received, and not given back to the upstream's window yet. */
  #unreturned = 0
  #paused = false
  #activeAt: number

  constructor(host: UpstreamStreamHost, user: UpstreamUser, reused: boolean) {
    this.#host = host
    this.#user = user
    this.reused = reused
    this.#activeAt = host.now
  }

  get isHead(): boolean {
    return this.#user?.isHead === true
  }

  get responding(): boolean {
    return this.#responding
  }

  /* What the exchange asks for */

  sendHead(head: Buffer): void {
    const user = this.#user
    if (user === undefined) return
    if (user.upgrade !== '') {
      if (user.upgrade.toLowerCase() !== 'websocket') {
        this.lose(
          'unsupported',
          'HTTP/2 carries no upgrade but WebSocket: write http:// or https:// for this route',
        )
        return
      }
      this.switching = switchingLines(head)
    }
    this.#ended = user.headOnly
    this.#endSent = this.#ended
    this.#host.open(this, head, this.#ended)
  }

  writeBody(bytes: Buffer): boolean {
    this.#activeAt = this.#host.now
    let sent = 0
    if (this.#held.bytes === 0) {
      for (let room = this.#room; room > 0 && sent < bytes.length; room = this.#room) {
        const end = Math.min(sent + room, bytes.length)
        this.#sendData(bytes.subarray(sent, end), false)
        sent = end
      }
    }
    if (sent < bytes.length) {
      this.#held.push(bytes.subarray(sent))
      this.#send()
    }
    return this.#held.bytes === 0
  }

  endBody(trailers: Buffer | undefined): void {
    this.#ended = true
    this.#trailers = trailers
    this.#send()
  }

  end(): void {
    this.endBody(undefined)
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#activeAt = this.#host.now
    this.#returnCredit()
  }

  /** RFC 9113 section 7: the upstream is told that nobody waits any more. */
  destroy(): void {
    if (this.#user === undefined) return
    this.#user = undefined
    this.#held.clear()
    this.#host.close(this, ERROR.CANCEL)
  }

  /* What the connection tells */

  onConnected(): void {
    this.#activeAt = this.#host.now
    this.#user?.onConnected()
  }

  failConnect(error: Error, timedOut: boolean): void {
    const user = this.#user
    this.#user = undefined
    user?.onConnectFailed(error, timedOut)
  }

  /** Ends the exchange, without a word to the upstream. */
  lose(fault: UpstreamFault, detail: string): void {
    const user = this.#user
    this.#user = undefined
    this.#held.clear()
    user?.onLost(fault, detail, this.#responding)
  }

  /** A head that the lexer has read. */
  onHead(head: Head, lines: Buffer, last: boolean): void {
    const user = this.#user
    if (user === undefined) return
    this.#activeAt = this.#host.now
    this.#tunnel = head.status === 101
    if (head.status < 200 && !this.#tunnel) {
      if (last || ++this.#interimResponses > MAX_INTERIM_RESPONSES) this.#invalid('1xx that end, or too many')
      else {
        user.onResponseHead(head, lines)
        user.onReadEnd()
      }
      return
    }
    const bodiless = user.isHead || head.status === 204 || head.status === 304
    this.#left = bodiless ? 0 : head.contentLength
    if (last && this.#left > 0) {
      this.#invalid('the content is shorter than it says')
      return
    }
    this.#responding = true
    user.onResponseHead(head, lines)
    if (last) this.#finish(undefined)
    else this.#user?.onReadEnd()
  }

  /** `credit`: how much of the windows the frame took, padding included. */
  onData(bytes: Buffer, start: number, end: number, last: boolean, credit: number): void {
    const user = this.#user
    if (user === undefined) return
    this.#activeAt = this.#host.now
    const length = end - start
    if (!this.#responding) {
      this.#invalid('content before a head')
      return
    }
    if (this.#left !== -1) {
      this.#left -= length
      if (this.#left < 0 || (last && this.#left > 0)) {
        this.#invalid('the content is not as long as it says')
        return
      }
    }
    this.#unreturned += credit
    if (length > 0) user.onContent(bytes, start, end)
    if (last) this.#finish(undefined)
    else {
      this.#user?.onReadEnd()
      if (!this.#paused) this.#returnCredit()
    }
  }

  onTrailers(lines: string): void {
    if (this.#left > 0) this.#invalid('the content is shorter than it says')
    else this.#finish(lines === '' ? undefined : Buffer.from(lines, 'latin1'))
  }

  /**
   * RFC 9113 section 8.7: what was refused was not processed. Section 8.1 has NO_ERROR come after END_STREAM, yet node:http2
   * leaves END_STREAM out where its app has not read the request's body: the Content-Length tells that all has come.
   */
  onReset(error: number): void {
    this.#host.close(this, undefined)
    if (error === ERROR.NO_ERROR && this.#responding && this.#left === 0) {
      this.#finish(undefined)
      return
    }
    const refused = error === ERROR.REFUSED_STREAM && !this.#responding
    this.lose(refused ? 'refused' : 'reset', `the upstream reset the stream (error ${error})`)
  }

  /** There may be room for more of the body. */
  pump(): void {
    this.#send()
    if (this.#held.bytes === 0 && !this.#ended) this.#user?.onDrain()
  }

  onSweep(now: number, responseMs: number, tunnelMs: number): void {
    const user = this.#user
    const waitsForClient = this.#paused || (user?.requestDone === false && this.#held.bytes === 0)
    if (waitsForClient) this.#activeAt = now
    else if (now - this.#activeAt > (this.#tunnel ? tunnelMs : responseMs))
      this.#fail('timeout', 'the upstream went silent', ERROR.CANCEL)
  }

  get #isOpen(): boolean {
    return this.id !== 0 && !this.#endSent && this.#user !== undefined
  }

  /** How much may be sent in one frame now. */
  get #room(): number {
    const host = this.#host
    if (!this.#isOpen || host.congested) return 0
    return Math.max(0, Math.min(MAX_FRAME_BYTES, this.sendWindow, host.sendWindow))
  }

  #sendData(bytes: Buffer, isLast: boolean): void {
    const host = this.#host
    this.sendWindow -= bytes.length
    host.sendWindow -= bytes.length
    this.#activeAt = host.now
    host.data(this.id, bytes, isLast)
  }

  #send(): void {
    if (!this.#isOpen) return
    const host = this.#host
    while (this.#held.bytes > 0) {
      const room = this.#room
      if (room === 0) {
        host.wait(this)
        return
      }
      const bytes = this.#held.take(room)
      this.#endSent = this.#ended && this.#trailers === undefined && this.#held.bytes === 0
      this.#sendData(bytes, this.#endSent)
    }
    if (!this.#ended || this.#endSent) return
    this.#endSent = true
    if (this.#trailers === undefined) host.data(this.id, Buffer.alloc(0), true)
    else host.trailers(this.id, this.#trailers)
  }

  #returnCredit(): void {
    if (this.#unreturned < STREAM_WINDOW / 2) return
    this.#host.credit(this.id, this.#unreturned)
    this.receiveWindow += this.#unreturned
    this.#unreturned = 0
  }

  #finish(trailers: Buffer | undefined): void {
    const user = this.#user
    this.#user = undefined
    this.#held.clear()
    // The rest of a request that is answered already is not wanted.
    this.#host.close(this, this.#endSent ? undefined : ERROR.CANCEL)
    user?.onResponseEnd(trailers)
  }

  #invalid(detail: string): void {
    this.#fail('invalid', detail, ERROR.PROTOCOL_ERROR)
  }

  /** Ends the exchange, and tells the upstream. */
  #fail(fault: UpstreamFault, detail: string, error: number): void {
    this.#host.close(this, error)
    this.lose(fault, detail)
  }
}
