import t from 'tap'
import { Deadlines, type Timed } from '../../../src/http/fast/deadlines.ts'
import type { Cancel, Clock } from '../../../src/time.ts'

/** A clock of which the test is the hand. */
class HandClock implements Clock {
  nowMs = 0
  task: (() => void) | undefined

  now(): number {
    return this.nowMs
  }

  monotonic(): number {
    return this.nowMs
  }

  after(_delayMs: number, task: () => void): Cancel {
    this.task = task
    return () => {
      this.task = undefined
    }
  }

  tick(ms: number): void {
    this.nowMs += ms
    const task = this.task
    this.task = undefined
    task?.()
  }
}

function timed(deadline: number): Timed & { count: number } {
  return {
    deadline,
    count: 0,
    onDeadline() {
      this.count++
    },
  }
}

t.test('a deadline that has passed is told at the next sweep, one that has moved is not', async (t) => {
  const clock = new HandClock()
  const deadlines = new Deadlines(clock, () => 10)
  const first = timed(15)
  const moved = timed(15)
  deadlines.add(first)
  deadlines.add(moved)
  clock.tick(10)
  t.equal(first.count, 0)
  moved.deadline = 100
  clock.tick(10)
  t.equal(first.count, 1)
  t.equal(moved.count, 0)
})

t.test('what is deleted is told nothing', async (t) => {
  const clock = new HandClock()
  const deadlines = new Deadlines(clock, () => 10)
  const gone = timed(5)
  deadlines.add(gone)
  deadlines.delete(gone)
  clock.tick(10)
  t.equal(gone.count, 0)
})

t.test('no timer runs while there is nothing to watch, and time is right when it starts again', async (t) => {
  const clock = new HandClock()
  const deadlines = new Deadlines(clock, () => 10)
  const one = timed(1000)
  deadlines.add(one)
  deadlines.delete(one)
  clock.tick(10)
  t.equal(clock.task, undefined)
  clock.tick(500)
  t.equal(deadlines.now, 510)
  deadlines.add(one)
  t.equal(deadlines.now, 510)
  t.ok(clock.task)
})
