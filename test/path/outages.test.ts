/** The ways in which a CA fails to answer. */
import t from 'tap'
import { type FaultCase, survive } from './survive.ts'

const FAULTS: readonly FaultCase[] = [
  { kind: '503', why: /503/ },
  { kind: 'refuse', why: /ECONNREFUSED|refused/ },
  { kind: 'hang', why: /longer than|did not answer|usual time/ },
  { kind: 'drip', why: /longer than|did not answer|usual time/ },
  { kind: '429', why: /429|rate/ },
  { kind: 'bad-nonce', why: /nonce/i },
  { kind: 'html', why: /JSON/ },
]

for (const fault of FAULTS) t.test(`a CA that answers with: ${fault.kind}`, (t) => survive(t, fault))
