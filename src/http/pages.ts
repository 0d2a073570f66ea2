/** The short pages for requests that no upstream answered: what happened, and the id to ask the operator about. */
import { STATUS_CODES } from 'node:http'

interface Page {
  readonly contentType: string
  readonly body: string
}

/** Where RFC 9110 has another name than Node. */
const TITLES: Readonly<Record<number, string>> = { 413: 'Content Too Large' }

export function titleOf(status: number): string {
  return TITLES[status] ?? STATUS_CODES[status] ?? 'Status'
}

/** HTML for those who ask for it (`accept` is the Accept field), else text. Says nothing about what is behind the proxy. */
export function errorPage(status: number, requestId: string, accept: string | undefined): Page {
  const title = `${status} ${titleOf(status)}`
  if (accept === undefined || !/\btext\/html\b/i.test(accept))
    return { contentType: 'text/plain; charset=utf-8', body: `${title}\nRequest ${requestId}\n` }
  return {
    contentType: 'text/html; charset=utf-8',
    body: `<!doctype html>
<html lang="en">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<body style="font: 1rem/1.5 system-ui; margin: 15vh auto; max-width: 30rem; padding: 0 1rem">
<h1>${title}</h1>
<p>Request <code>${requestId}</code>
`,
  }
}
