/**
 * Responses in a content coding that the client takes (RFC 9110 section 8.4): which, what the head then says, and the
 * streams that do it. Wire-neutral; asked for the routes that say `compress`.
 */
import {
  type BrotliCompress,
  constants,
  createBrotliCompress,
  createGzip,
  createZstdCompress,
  type Gzip,
  type ZstdCompress,
} from 'node:zlib'
import { editsOf, type FieldEdits } from './edits.ts'
import type { RequestFields } from './verdict.ts'

/** In order of preference, where a client likes them equally: by what they cost and gain on the way. */
const CODINGS = ['zstd', 'br', 'gzip'] as const
export type Coding = (typeof CODINGS)[number]

/** Below this, a coding gains less than its frame and the work cost. */
const MIN_BYTES = 1024

/** By Content-Type, whatever its parameters. Events come one by one. */
const COMPRESSIBLE =
  /^(?:text\/(?!event-stream[ \t]*(?:;|$))[^;]+|application\/(?:(?:[^;]+\+)?(?:json|xml)|javascript|ecmascript|x-javascript|x-ndjson|wasm|manifest\+json|rtf|graphql|vnd\.ms-fontobject)|image\/(?:svg\+xml|bmp|x-icon|vnd\.microsoft\.icon)|font\/(?:ttf|otf|collection))[ \t]*(?:;|$)/i

/** What depends on the content as it was sent: a coding would make it wrong (RFC 9530). */
const BOUND_TO_CONTENT = ['content-encoding', 'content-range', 'content-digest', 'repr-digest', 'content-md5']

export interface ResponseFacts extends RequestFields {
  readonly method: string
  readonly status: number
  /** -1 where the response does not say. */
  readonly contentLength: number
}

export interface Compression {
  /** Undefined: the content stays as it is. */
  readonly coding: Coding | undefined
  /** What the head is to say. */
  readonly edits: FieldEdits
}

const VARY: readonly [string, string] = ['Vary', 'Accept-Encoding']
const AS_IT_IS: Compression = { coding: undefined, edits: editsOf([], []) }
/** Another client may get it in a coding. */
const AS_IT_IS_HERE: Compression = { coding: undefined, edits: editsOf([], [VARY]) }

const CHANGED_BY_CODING = ['content-length', 'accept-ranges', 'etag']

/** Undefined for a response that no client would get in a coding. `acceptEncoding`: the request's field. */
export function compressionOf(
  response: ResponseFacts,
  acceptEncoding: string | undefined,
): Compression | undefined {
  if (!isCompressible(response)) return undefined
  const coding = response.method === 'HEAD' ? undefined : preferredCoding(acceptEncoding)
  const vary = response.field('vary') ?? ''
  const varies = /(?:^|,)[ \t]*(?:accept-encoding|\*)[ \t]*(?:,|$)/i.test(vary)
  if (coding === undefined) return varies ? AS_IT_IS : AS_IT_IS_HERE
  const added: (readonly [string, string])[] = varies ? [] : [VARY]
  added.push(['Content-Encoding', coding])
  // RFC 9110 section 8.8.1: what is the same but for its coding has a weak validator. Ranges would be of other octets.
  const etag = response.field('etag')
  if (etag !== undefined) added.push(['ETag', etag.startsWith('W/') ? etag : `W/${etag}`])
  return { coding, edits: editsOf(CHANGED_BY_CODING, added) }
}

function isCompressible(response: ResponseFacts): boolean {
  const { status, contentLength } = response
  if (status < 200 || status === 204 || status === 205 || status === 206 || status === 304) return false
  if (contentLength !== -1 && contentLength < MIN_BYTES) return false
  if (!COMPRESSIBLE.test(response.field('content-type') ?? '')) return false
  if (/\bno-transform\b/i.test(response.field('cache-control') ?? '')) return false
  return BOUND_TO_CONTENT.every((name) => response.field(name) === undefined)
}

/** RFC 9110 section 12.5.3: of those that the client names, the one with the greatest weight; none where it likes none better. */
export function preferredCoding(acceptEncoding = ''): Coding | undefined {
  if (acceptEncoding === '') return undefined
  const weights = new Map(acceptEncoding.split(',').map(weighted))
  let best: Coding | undefined
  let weight = 0
  for (const coding of CODINGS) {
    const own = weights.get(coding) ?? 0
    if (own <= weight) continue
    best = coding
    weight = own
  }
  return (weights.get('identity') ?? 0) > weight ? undefined : best
}

function weighted(element: string): [name: string, weight: number] {
  const [name = '', ...parameters] = element.split(';').map((part) => part.trim().toLowerCase())
  const [weight] = parameters
  if (weight === undefined) return [name, 1]
  return [name, /^q=(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/.test(weight) ? Number(weight.slice(2)) : 0]
}

/** Who gets what was compressed, and is told when there is room for more. */
export interface CompressorUser {
  onCompressed(bytes: Buffer): void
  onCompressedEnd(): void
  onCompressorDrain(): void
  onCompressorError(error: Error): void
}

/** One response's content on its way; the work is done on the thread pool. */
export class Compressor {
  readonly #stream: Gzip | BrotliCompress | ZstdCompress
  #flushing = false

  constructor(coding: Coding, user: CompressorUser) {
    this.#stream = createStream(coding)
    this.#stream.on('data', (bytes: Buffer) => user.onCompressed(bytes))
    this.#stream.on('end', () => user.onCompressedEnd())
    this.#stream.on('drain', () => user.onCompressorDrain())
    this.#stream.on('error', (error) => user.onCompressorError(error))
  }

  /** Takes `bytes` over; false: wait for `onCompressorDrain`. */
  write(bytes: Buffer): boolean {
    return this.#stream.write(bytes)
  }

  /** Has what was written come out, for a client that waits for it. */
  flush(): void {
    if (this.#flushing) return
    this.#flushing = true
    this.#stream.flush(() => {
      this.#flushing = false
    })
  }

  end(): void {
    this.#stream.end()
  }

  pause(): void {
    this.#stream.pause()
  }

  resume(): void {
    this.#stream.resume()
  }

  destroy(): void {
    this.#stream.destroy()
  }
}

/** Levels and windows for content made anew for each request: a core's time and memory count more than the last percent. */
function createStream(coding: Coding): Gzip | BrotliCompress | ZstdCompress {
  const chunkSize = 32 * 1024
  if (coding === 'gzip') return createGzip({ level: 5, chunkSize })
  if (coding === 'br') {
    const params = { [constants.BROTLI_PARAM_QUALITY]: 4, [constants.BROTLI_PARAM_LGWIN]: 18 }
    return createBrotliCompress({ chunkSize, params })
  }
  const params = { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_windowLog]: 18 }
  return createZstdCompress({ chunkSize, params })
}
