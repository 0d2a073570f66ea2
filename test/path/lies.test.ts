/** The ways in which a CA issues what nobody can use. */
import t from 'tap'
import { type FaultCase, survive } from './survive.ts'

const FAULTS: readonly FaultCase[] = [
  { kind: 'expired-certificate', why: /expired/, trust: 'any' },
  { kind: 'foreign-certificate', why: /key/, trust: 'any' },
  { kind: 'wrong-name', why: /app\.example\.com/, trust: 'any' },
  { kind: 'truncated', why: /certificate/ },
  { kind: 'wrong-chain', why: /chain|issuer|root|sign/ },
]

for (const fault of FAULTS) t.test(`a CA that issues: ${fault.kind}`, (t) => survive(t, fault))
