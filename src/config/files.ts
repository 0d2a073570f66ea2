/**
 * The files that a config names: relative paths become absolute, and each file must be there and readable; files of
 * roots must hold certificates. Whether a certificate and its key fit is for `cert/files.ts`, which loads them.
 * Receives sections from `load.ts`.
 */
import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { ConfigProblem } from '../errors.ts'
import type { Sections } from './schema.ts'

type FileKey = 'roots' | 'trust' | 'certificate' | 'key' | 'ca' | 'crl' | 'page'

const HOLD_ROOTS: ReadonlySet<FileKey> = new Set(['roots', 'trust', 'ca'])

/** A place in the config that names a file. */
interface Place {
  readonly path: string
  readonly holder: { [key in FileKey]?: string | undefined }
  readonly key: FileKey
  readonly file: string
}

/** Changes the sections in place; gives the files that they name, absolute, each once. */
export function makeAbsolute(sections: Sections, baseDir: string): string[] {
  for (const { holder, key, file } of placesOf(sections)) holder[key] = resolve(baseDir, file)
  return [...new Set(placesOf(sections).map((place) => place.file))]
}

/** Reads every file that the sections name (by absolute path). Never rejects. */
export async function checkFiles(sections: Sections): Promise<ConfigProblem[]> {
  const problems = placesOf(sections).map(async ({ path, key, file }) => {
    const fault = await faultOf(file, HOLD_ROOTS.has(key))
    return fault === undefined ? [] : [{ path, ...fault }]
  })
  return (await Promise.all(problems)).flat()
}

function placesOf({ cas, sites }: Sections): Place[] {
  const candidates: [string, Place['holder'] | undefined, FileKey[]][] = [
    ...[...cas].map(([name, ca]): (typeof candidates)[number] => [`cas.${name}`, ca, ['roots', 'trust']]),
    ...sites.flatMap((site, index): typeof candidates => [
      [`sites[${index}].tls`, site?.tls, ['certificate', 'key']],
      [`sites[${index}].tls.clientCertificates`, site?.tls.clientCertificates, ['ca', 'crl']],
      [`sites[${index}].upstreamTls`, site?.upstreamTls, ['roots', 'certificate', 'key']],
      [`sites[${index}].maintenance`, site?.maintenance || undefined, ['page']],
      ...(site?.routes ?? []).map(({ maintenance }, route): (typeof candidates)[number] => [
        `sites[${index}].routes[${route}].maintenance`,
        maintenance || undefined,
        ['page'],
      ]),
    ]),
  ]
  return candidates.flatMap(([path, holder, keys]) =>
    keys.flatMap((key) => {
      const file = holder?.[key]
      if (holder === undefined || file === undefined) return []
      if (key === 'trust' && (file === 'public' || file === 'any')) return []
      return [{ path: `${path}.${key}`, holder, key, file }]
    }),
  )
}

async function faultOf(file: string, holdsRoots: boolean): Promise<Omit<ConfigProblem, 'path'> | undefined> {
  let text: string
  try {
    text = await readFile(file, 'latin1')
  } catch (error) {
    return unreadable(file, error instanceof Error && 'code' in error ? error.code : undefined)
  }
  if (!holdsRoots) return undefined
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? []
  if (blocks.length === 0)
    return { message: `${file} holds no PEM certificate`, hint: 'name a PEM file of root certificates' }
  const damaged = blocks.findIndex((block) => !isCertificate(block))
  return damaged === -1
    ? undefined
    : { message: `certificate ${damaged + 1} in ${file} is damaged`, hint: 'export it again from its source' }
}

function unreadable(file: string, code: unknown): Omit<ConfigProblem, 'path'> {
  if (code === 'ENOENT' || code === 'ENOTDIR')
    return { message: `${file} does not exist`, hint: 'a relative path starts at the folder of the config' }
  if (code === 'EACCES' || code === 'EPERM')
    return { message: `${file} cannot be read`, hint: 'let the user that runs Holdfast read it' }
  if (code === 'EISDIR') return { message: `${file} is a folder`, hint: 'name a file' }
  return { message: `${file} cannot be read: ${code}`, hint: 'check the disk and the path' }
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).raw.length > 0
  } catch {
    return false
  }
}
