/** Debian's nginx, as one process. */
import { Peer } from './process.ts'

const TEMPORARY = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  .map((name) => `${name}_temp_path ${name};`)
  .join(' ')

/**
 * @param http what stands within `http { … }`: `server { listen 127.0.0.1:PORT; … }`
 * @param ports that it listens on; get them from `freePort`
 * @param files beside its configuration, which may name them relatively: certificates, documents
 */
export function startNginx(
  http: string,
  ports: readonly number[],
  files: Record<string, string> = {},
): Promise<Peer> {
  const configuration = `
    daemon off; master_process off; pid pid; error_log stderr; events {}
    http { access_log off; ${TEMPORARY} ${http} }`
  const options = { ports, files: { ...files, 'nginx.conf': configuration } }
  return Peer.start('nginx', ['-p', '.', '-c', 'nginx.conf', '-e', 'stderr'], options)
}
