/** What every solver owes (`src/challenge/solver.ts`), run by each implementation's test. */
import t from 'tap'
import type { Challenge, Solver } from '../../src/challenge/solver.ts'

export interface SolverUnderTest<S extends Solver> {
  readonly create: () => S
  /** Would the CA that asks for this challenge now be convinced? */
  readonly convinces: (solver: S, challenge: Challenge) => boolean
}

let counter = 0

/** A challenge as a CA would set it, with a token of its own. */
export function challengeOf(solver: Solver, name = 'app.example.com'): Challenge {
  const token = `token_${counter++}`.padEnd(43, 'A')
  return { type: solver.type, name, token, keyAuthorization: `${token}.${'thumbprint'.padEnd(43, 'B')}` }
}

export function testSolverContract<S extends Solver>({ create, convinces }: SolverUnderTest<S>): void {
  t.test('answers what is presented, from then until it is cleaned up', async (t) => {
    const solver = create()
    const challenge = challengeOf(solver)
    t.notOk(convinces(solver, challenge))
    await solver.present(challenge)
    t.ok(convinces(solver, challenge))
    await solver.cleanUp(challenge)
    t.notOk(convinces(solver, challenge))
  })

  t.test('cleaning up is idempotent, and harmless without a present', async (t) => {
    const solver = create()
    const challenge = challengeOf(solver)
    await solver.cleanUp(challenge)
    await solver.present(challenge)
    await solver.cleanUp(challenge)
    await solver.cleanUp(challenge)
    t.notOk(convinces(solver, challenge))
    await solver.present(challenge)
    t.ok(convinces(solver, challenge), 'and nothing is owed afterwards')
  })

  t.test('cleaning up while it is being presented leaves nothing behind', async (t) => {
    const solver = create()
    const challenge = challengeOf(solver)
    const presenting = solver.present(challenge)
    await solver.cleanUp(challenge)
    await presenting
    t.notOk(convinces(solver, challenge))
  })

  t.test('of two challenges for one name, cleaning up one leaves the other answered', async (t) => {
    const solver = create()
    const older = challengeOf(solver)
    const newer = challengeOf(solver)
    for (const [done, left] of [
      [older, newer],
      [newer, older],
    ] as const) {
      await solver.present(older)
      await solver.present(newer)
      await solver.cleanUp(done)
      t.ok(convinces(solver, left))
      t.notOk(convinces(solver, done))
      await solver.cleanUp(left)
    }
  })

  t.test('one challenge presented by two orders is answered until both have cleaned up', async (t) => {
    const solver = create()
    const challenge = challengeOf(solver)
    await solver.present(challenge)
    await solver.present({ ...challenge })
    await solver.cleanUp({ ...challenge })
    t.ok(convinces(solver, challenge))
    await solver.cleanUp(challenge)
    t.notOk(convinces(solver, challenge))
  })

  t.test('challenges of different names do not meet', async (t) => {
    const solver = create()
    const [one, other] = [challengeOf(solver, 'one.example.com'), challengeOf(solver, 'other.example.com')]
    await solver.present(one)
    t.notOk(convinces(solver, other))
    await solver.present(other)
    await solver.cleanUp(one)
    t.notOk(convinces(solver, one))
    t.ok(convinces(solver, other))
  })
}
