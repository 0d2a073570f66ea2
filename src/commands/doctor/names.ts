/** Can this CA issue for that kind of name? By what is known of public CAs. Pure. */
import { isIP } from 'node:net'
import { type Ca, obstacleOf } from '../../config/cas.ts'
import { type NameKind, presetAt } from '../../config/presets.ts'
import { type Finding, fail, ok } from './finding.ts'

const TITLES: Readonly<Record<NameKind, string>> = {
  wildcard: 'wildcards',
  ip: 'IP addresses',
  idn: 'internationalized names',
}

/** None for ordinary names, which every CA issues for, and for CAs that nothing is known of. */
export function checkName(host: string, ca: Ca): Finding[] {
  const preset = ca.type === 'acme' ? presetAt(ca.directory) : undefined
  if (preset === undefined || ca.type !== 'acme') return []
  return kindsOf(host).map((kind) => {
    const title = TITLES[kind]
    if (preset.refuses.includes(kind))
      return fail('name', `${ca.name} issues no ${title}`, `add another CA to \`tls.cas\` for ${host}`)
    const profile = preset.profileFor?.[kind]
    if (profile === undefined || profile === ca.profile) return ok('name', `${ca.name} issues ${title}`)
    const says = `${ca.name} issues ${title} by its profile ${profile} only`
    return fail('name', says, `set "profile": "${profile}" in \`cas.${ca.name}\``)
  })
}

/** Of a CA that is listed for the host and can never serve it. */
export function checkGivenUp(host: string, ca: Ca): Finding {
  if (obstacleOf(ca, host) === 'private')
    return fail(
      'name',
      `${ca.name} issues for public names only`,
      `take "${ca.name}" out of the \`tls.cas\` of ${host}`,
    )
  return fail(
    'name',
    `${ca.name} issues wildcards by dns-01 only, which Holdfast does not answer`,
    `list the names that you serve in the place of ${host}, or give its site \`tls.certificate\`; if every client has the internal root, "tls": { "cas": ["internal"] }`,
  )
}

function kindsOf(host: string): NameKind[] {
  if (isIP(host) !== 0) return ['ip']
  const kinds: NameKind[] = []
  if (host.startsWith('*.')) kinds.push('wildcard')
  if (/(^|\.)xn--/.test(host)) kinds.push('idn')
  return kinds
}
