/** The small app behind `serve --demo`: says what it was asked, so that a first look shows what a proxy adds. */
import { createServer } from 'node:http'
import { ConfigError } from '../errors.ts'

export const DEMO_PORT = 3000

/** @returns how to stop it */
export function startDemoApp(): Promise<() => Promise<void>> {
  const server = createServer((request, response) => {
    const seen = [
      `${request.method} ${request.url}`,
      ...Object.entries(request.headers).map(([name, value]) => `${name}: ${value}`),
    ]
    response.setHeader('content-type', 'text/plain; charset=utf-8')
    response.end(`Hello from the demo app behind Holdfast. It was asked:\n\n${seen.join('\n')}\n`)
  })
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const why =
        cause.code === 'EADDRINUSE'
          ? 'the port is in use: stop what uses it, or serve without --demo'
          : cause.message
      reject(
        new ConfigError([{ path: '--demo', message: `cannot listen on 127.0.0.1:${DEMO_PORT}: ${why}` }], {
          cause,
        }),
      )
    })
    server.listen(DEMO_PORT, '127.0.0.1', () => {
      resolve(
        () =>
          new Promise((stopped) => {
            server.close(() => stopped())
            server.closeAllConnections()
          }),
      )
    })
  })
}
