/** What a wire tells the gateway of a request, and what the gateway tells it to do. Wire-neutral. */
import type { ProxyError } from '../errors.ts'
import type { Balancer } from '../upstreams/balancer.ts'
import type { Client, ClientFields } from './client-fields.ts'
import type { FieldEdits } from './edits.ts'

export interface RequestFacts {
  readonly secure: boolean
  /** SNI in lower case; undefined when the client sent none. */
  readonly serverName: string | undefined
  /** Absent: it was not asked for a certificate. */
  readonly client?: Client | undefined
  readonly method: string
  /** The Host field or :authority as it was sent; undefined when absent. */
  readonly host: string | undefined
  /** Path and query: origin-form, see `originForm`. */
  readonly target: string
  /** See `Gateway.clientOf`. */
  readonly clientAddress: string
  /** -1 where the request does not say. */
  readonly contentLength: number
  /** Valid while the gateway decides. */
  readonly fields: RequestFields
}

export interface RequestFields {
  /** Value of a field by its lower-case name, `, `-joined when repeated; undefined when there is none. It costs a search. */
  field(name: string): string | undefined
}

/** Where requests below one path of a site go. */
export interface Route {
  readonly path: string
  readonly balancer: Balancer
  /** Value of Strict-Transport-Security for responses over TLS. */
  readonly hsts: string | undefined
  /** Of a request's content, in octets; a Content-Length past it was refused already. Infinite for no limit. */
  readonly maxBodyBytes: number
  /** See `rewriteTarget`. */
  readonly rewrite: string | undefined
  /** What the client's target counts as, where that could be read in two ways. */
  readonly target: string | undefined
  readonly requestEdits: FieldEdits | undefined
  readonly responseEdits: FieldEdits | undefined
  readonly compress: boolean
  /** See `clientFieldsOf`. */
  readonly clientFields: ClientFields | undefined
}

/** What can be carried out at once, or will be: the promise never rejects, and may decide upon `route`. */
export type Verdict =
  | Decision
  | { readonly action: 'wait'; readonly route: Route; readonly decision: Promise<Decision> }

/** `answer` is ours and whole; `refuse` becomes an error page; `forward` goes to an upstream of the route. */
export type Decision =
  | {
      readonly action: 'answer'
      readonly status: number
      readonly headers: readonly (readonly [name: string, value: string])[]
      readonly body: string
    }
  /** `hsts`: what the route’s site says to clients over TLS, where a route refuses. */
  | { readonly action: 'refuse'; readonly error: ProxyError; readonly hsts?: string | undefined }
  | Forward

export interface Forward {
  readonly action: 'forward'
  readonly route: Route
}
