/**
 * The files of one delivery: what they hold, whether what is there is still right, and how they are swapped. Serves
 * `deliveries.ts`.
 *
 * Each file is swapped by a rename, so a reader sees the old one or the new one, whole. Files that belong together are
 * all written and synced first, then renamed without anything in between; a reader that opens one before and another
 * after those few microseconds gets halves that do not match. `combined` and `pkcs12` have no such moment.
 */
import { renameSync } from 'node:fs'
import { access, type FileHandle, mkdir, open, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Certificate } from '../cert/certificate.ts'
import type { Delivery, Form } from '../config/deliver.ts'
import { messageOf } from '../errors.ts'
import { gidOf, uidOf } from './accounts.ts'

const HOLDS_KEY: ReadonlySet<Form> = new Set<Form>(['key', 'combined', 'pkcs12'])

/** Who owns a file, and its permission bits. An undefined number stays what it is. */
interface Ownership {
  readonly uid: number | undefined
  readonly gid: number | undefined
  readonly mode: number
}

export interface Outcome {
  readonly written: boolean
  readonly due: boolean
}

interface Staged {
  readonly temporary: string
  readonly path: string
}

/**
 * Makes the files hold this certificate. On failure none of them has changed, unless a rename failed after the first.
 *
 * @returns `written`: they did not hold it before; `due`: the command has not run since they were written
 * @throws Error whose message names the path
 */
export async function writeFiles(delivery: Delivery, certificate: Certificate): Promise<Outcome> {
  const uid = delivery.owner === undefined ? undefined : await uidOf(delivery.owner)
  const gid = delivery.group === undefined ? undefined : await gidOf(delivery.group)
  const ownershipOf = (form: Form): Ownership => ({
    uid,
    gid,
    mode: delivery.mode ?? (HOLDS_KEY.has(form) ? 0o600 : 0o644),
  })
  const checks = delivery.files.map(({ form, path }) =>
    isCurrent(path, form, certificate, delivery.passphrase, ownershipOf(form)),
  )
  if ((await Promise.all(checks)).every((current) => current)) {
    return { written: false, due: await isDue(delivery) }
  }
  const staged: Staged[] = []
  try {
    for (const { form, path } of delivery.files) {
      const temporary = temporaryOf(path)
      staged.push({ temporary, path })
      await stage(temporary, path, await contentOf(form, certificate, delivery.passphrase), ownershipOf(form))
    }
    if (delivery.command !== undefined) await writeFile(markerOf(delivery), '', { mode: 0o600 })
    for (const { temporary, path } of staged) renameSync(temporary, path)
  } catch (error) {
    for (const { temporary } of staged) await rm(temporary, { force: true }).catch(() => {})
    throw error
  }
  for (const folder of new Set(staged.map(({ path }) => dirname(path)))) await syncFolder(folder)
  return { written: true, due: delivery.command !== undefined }
}

/** The command has run: it is due no more. */
export async function markDone(delivery: Delivery): Promise<void> {
  await rm(markerOf(delivery), { force: true })
}

async function isDue(delivery: Delivery): Promise<boolean> {
  if (delivery.command === undefined) return false
  return access(markerOf(delivery)).then(
    () => true,
    () => false,
  )
}

/** An empty file that is there from before the files change until the command has run, also over a crash in between. */
function markerOf({ files: [first] }: Delivery): string {
  const path = first?.path ?? ''
  return join(dirname(path), `.${basename(path)}.holdfast-due`)
}

async function contentOf(
  form: Form,
  certificate: Certificate,
  passphrase: string | undefined,
): Promise<string | Buffer> {
  switch (form) {
    case 'fullchain':
      return certificate.chainPem
    case 'certificate':
      return certificate.leaf.toString()
    case 'chain':
      return certificate.chain
        .slice(1)
        .map((each) => each.toString())
        .join('')
    case 'key':
      return certificate.keyPem
    case 'combined':
      return certificate.chainPem + certificate.keyPem
    case 'pkcs12': {
      // Loaded for those who need it: it fills megabytes.
      const { writePkcs12 } = await import('../cert/pkcs12.ts')
      return writePkcs12(certificate, passphrase ?? '')
    }
  }
}

async function isCurrent(
  path: string,
  form: Form,
  certificate: Certificate,
  passphrase: string | undefined,
  wanted: Ownership,
): Promise<boolean> {
  try {
    const [found, { uid, gid, mode }] = await Promise.all([readFile(path), stat(path)])
    if (wanted.uid !== undefined && wanted.uid !== uid) return false
    if (wanted.gid !== undefined && wanted.gid !== gid) return false
    if ((mode & 0o7777) !== wanted.mode) return false
    // Encrypted anew, it differs at every writing.
    if (form === 'pkcs12') {
      const { readPkcs12 } = await import('../cert/pkcs12.ts')
      return isSame(readPkcs12(found, passphrase, path), certificate)
    }
    return found.equals(Buffer.from(await contentOf(form, certificate, passphrase)))
  } catch {
    // Missing, or not ours: to be written.
    return false
  }
}

function isSame(found: { chainPem: string; keyPem: string }, { chainPem, keyPem }: Certificate): boolean {
  return found.chainPem === chainPem && found.keyPem === keyPem
}

/** Beside its target, by a fixed name: what a crash left is replaced by the next attempt. */
function temporaryOf(path: string): string {
  return join(dirname(path), `.${basename(path)}.holdfast`)
}

/** Writes a file that only we can read until it has its owner. */
async function stage(
  temporary: string,
  path: string,
  content: string | Buffer,
  { uid, gid, mode }: Ownership,
): Promise<void> {
  let handle: FileHandle | undefined
  try {
    await mkdir(dirname(path), { recursive: true })
    await rm(temporary, { force: true })
    handle = await open(temporary, 'wx', 0o600)
    await handle.writeFile(content)
    if (uid !== undefined || gid !== undefined) await handle.chown(uid ?? -1, gid ?? -1)
    await handle.chmod(mode)
    await handle.sync()
  } catch (cause) {
    throw new Error(`${path} cannot be written: ${reasonOf(cause)}`, { cause })
  } finally {
    await handle?.close()
  }
}

const REASONS: Readonly<Record<string, string>> = {
  EACCES: 'the folder does not let this user write',
  EPERM: 'only root may give files to another owner or group',
  EROFS: 'the file system is read-only',
  ENOSPC: 'the disk is full',
  ENOTDIR: 'a part of the path is a file',
  EEXIST: 'its folder is a file, or another process writes it at the same time',
  EISDIR: 'it is a folder',
}

function reasonOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return REASONS[code] ?? messageOf(error)
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
