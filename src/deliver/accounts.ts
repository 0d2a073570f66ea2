/** Names of users and groups to numbers, by /etc/passwd and /etc/group: what the system's own services are in. */
import { readFile } from 'node:fs/promises'

/** @throws Error that names the account and the file which lacks it */
export function uidOf(owner: string | number): Promise<number> {
  return numberOf(owner, 'user', '/etc/passwd')
}

/** @throws Error that names the account and the file which lacks it */
export function gidOf(group: string | number): Promise<number> {
  return numberOf(group, 'group', '/etc/group')
}

async function numberOf(account: string | number, kind: string, file: string): Promise<number> {
  if (/^\d+$/.test(String(account))) return Number(account)
  // Both files have the name first and the number third.
  for (const line of (await readFile(file, 'utf8')).split('\n')) {
    const [name, , number = ''] = line.split(':')
    if (name === account && /^\d+$/.test(number)) return Number(number)
  }
  throw new Error(`there is no ${kind} "${account}" in ${file}: create it, or give its number`)
}
