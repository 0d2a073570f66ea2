import t from 'tap'
import { Http01Solver } from '../../src/challenge/http-01.ts'
import { challengeOf, testSolverContract } from './contract.ts'

const PATH = '/.well-known/acme-challenge/'

testSolverContract({
  create: () => new Http01Solver(),
  convinces: (solver, { token, keyAuthorization }) => solver.answer(PATH + token) === keyAuthorization,
})

t.test('answers the exact path only', async (t) => {
  const solver = new Http01Solver()
  const challenge = challengeOf(solver)
  await solver.present(challenge)
  const path = PATH + challenge.token
  for (const other of [
    '/',
    PATH,
    challenge.token,
    `${path}/`,
    `${path}?`,
    `${path}?a=b`,
    `${path}%20`,
    `/${path}`,
    `http://app.example.com${path}`,
    path.toUpperCase(),
    path.slice(0, -1),
    `${PATH}../${challenge.token}`,
    `${PATH}__proto__`,
    `${PATH}constructor`,
  ]) {
    t.equal(solver.answer(other), undefined, other)
  }
  t.equal(solver.answer(path), challenge.keyAuthorization)
})

t.test('refuses to present a token that is not base64url', async (t) => {
  const solver = new Http01Solver()
  for (const token of ['', '../etc', 'a/b', 'a b', 'a?b', 'a\r\nb', 'ä', 'a=']) {
    await t.rejects(
      solver.present({ ...challengeOf(solver), token }),
      /the token of the http-01 challenge for app\.example\.com is not base64url/,
    )
    t.equal(solver.answer(PATH + token), undefined)
  }
})

t.test('a CA cannot take over a challenge of another CA by choosing the same token', async (t) => {
  const solver = new Http01Solver()
  const first = challengeOf(solver)
  const second = { ...first, keyAuthorization: `${first.token}.${'other'.padEnd(43, 'C')}` }
  await solver.present(first)
  await solver.present(second)
  t.equal(solver.answer(PATH + first.token), first.keyAuthorization)
  await solver.cleanUp(first)
  t.equal(solver.answer(PATH + first.token), second.keyAuthorization)
})
