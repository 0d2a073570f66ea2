import t from 'tap'
import type { AuthorityReport } from '../../../src/commands/doctor/authority.ts'
import { fail, ok, warn } from '../../../src/commands/doctor/finding.ts'
import { failoverOf, standingOf } from '../../../src/commands/doctor/standing.ts'
import { resolveCa } from '../../../src/config/cas.ts'

const authority = (findings: AuthorityReport['findings'] = []): AuthorityReport => ({
  ca: resolveCa('letsencrypt', undefined)!,
  findings,
  isDistrusted: false,
  usable: true,
  caaIdentities: [],
  accountUri: undefined,
  aheadMs: undefined,
})
const bad = (check: string) => fail(check, 'no', 'mend it')

t.test('a CA with a host: what keeps it from issuing, the farthest first', async (t) => {
  const caa = bad('CAA')
  t.equal(standingOf(authority([ok('directory', 'answers')]), [ok('CAA', 'permits')], true), 'ok')
  t.equal(standingOf(authority(), [warn('CAA', 'hm', 'ask')], true), 'warn')
  t.equal(standingOf(authority([warn('profile', 'none', 'set it')]), [], true), 'warn')
  t.equal(standingOf(authority(), [], false), 'cannot validate')
  t.equal(standingOf(authority(), [caa], false), 'CAA forbids')
  t.equal(standingOf(authority(), [caa, bad('name')], true), 'cannot issue')
  t.equal(standingOf(authority([bad('trust')]), [caa], true), 'untrusted')
  t.equal(standingOf(authority([bad('trust'), bad('account')]), [caa], true), 'account fails')
  t.equal(standingOf(authority([bad('directory')]), [caa], true), 'unreachable')
  t.equal(standingOf({ ...authority([bad('directory')]), isDistrusted: true }, [], true), 'distrusted')
  t.equal(standingOf(authority(), [bad('what comes to be checked later')], true), 'cannot issue')
})

t.test('a host without one of its CAs', async (t) => {
  t.equal(failoverOf(0, 0, []), 'no CA')
  t.equal(failoverOf(1, 1, []), 'one CA alone')
  t.equal(failoverOf(2, 1, []), 'one company')
  t.equal(failoverOf(2, 2, [ok('live', 'verifies'), warn('standby', 'off', 'set it')]), 'ready')
  t.equal(failoverOf(2, 2, [ok('live', 'verifies'), bad('standby')]), 'standby fails')
  t.equal(failoverOf(2, 2, [bad('live'), bad('standby')]), 'live fails')
})
