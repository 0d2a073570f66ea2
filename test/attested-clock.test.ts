import t from 'tap'
import { AttestedClock } from '../src/attested-clock.ts'
import { VirtualClock } from '../src/commands/simulate/virtual-clock.ts'
import { DAY, HOUR, MINUTE } from '../src/time.ts'

const MONTH = 30 * DAY

function setUp() {
  const machine = new VirtualClock()
  const truth = (): number => start + machine.monotonic()
  const start = machine.now()
  return { machine, truth, clock: new AttestedClock(machine) }
}

t.test('as long as nobody has told the time the machine is believed', async (t) => {
  const { machine, clock } = setUp()
  machine.jump(MONTH)
  t.equal(clock.now(), machine.now())
  t.equal(clock.errorMs, 0)
})

for (const errorMs of [MONTH, -MONTH, HOUR, -HOUR]) {
  t.test(`a clock that is wrong by ${errorMs / HOUR} h from the start`, async (t) => {
    t.test('is corrected by two CAs that agree', async (t) => {
      const { machine, truth, clock } = setUp()
      machine.jump(errorMs)
      clock.hear('a', truth())
      t.equal(clock.now(), machine.now(), "one CA's clock may itself be wrong")
      await machine.advance(MINUTE)
      clock.hear('b', truth() + 5 * MINUTE)
      t.equal(clock.now(), truth() + 5 * MINUTE)
      t.equal(clock.errorMs, errorMs - 5 * MINUTE)
      await machine.advance(HOUR)
      t.equal(clock.now(), truth() + 5 * MINUTE)
    })

    t.test('is not corrected by one CA, however often it says so', async (t) => {
      const { machine, truth, clock } = setUp()
      machine.jump(errorMs)
      for (let count = 0; count < 3; count++) clock.hear('a', truth())
      t.equal(clock.now(), machine.now())
    })
  })

  t.test(
    `a jump by ${errorMs / HOUR} h is not noticed once one CA has agreed with the machine`,
    async (t) => {
      const { machine, truth, clock } = setUp()
      clock.hear('a', truth())
      await machine.advance(HOUR)
      machine.jump(errorMs)
      t.equal(clock.now(), truth())
      for (let count = 0; count < 5; count++) {
        await machine.advance(12 * HOUR)
        clock.hear('a', truth())
        t.equal(clock.now(), truth(), 'nor while it goes on saying so')
      }
      machine.jump(-errorMs)
      t.equal(clock.errorMs, 0)
    },
  )
}

for (const errorMs of [MONTH, -MONTH]) {
  t.test(`where one CA alone is heard, and the machine is wrong by ${errorMs / DAY} days`, async (t) => {
    const issuedAt = (time: number) => ({ from: time - HOUR, until: time + 2 * DAY })
    const heard = () => {
      const { machine, truth, clock } = setUp()
      machine.jump(errorMs)
      clock.hear('a', truth())
      return { machine, truth, clock }
    }

    t.test('it is believed with what it has issued, until another is heard', async (t) => {
      const { machine, truth, clock } = heard()
      clock.vouch('a', issuedAt(truth()))
      t.equal(clock.now(), truth())
      await machine.advance(DAY)
      t.equal(clock.now(), truth())
      clock.hear('b', machine.now())
      t.equal(clock.now(), machine.now(), 'the machine and another CA overrule it')
    })

    t.test('not where the machine may be right too, nor where its own clock is not', async (t) => {
      const { machine, truth, clock } = heard()
      clock.vouch('a', { from: truth() - 2 * MONTH, until: truth() + 2 * MONTH })
      clock.vouch('a', issuedAt(truth() + 2 * MONTH))
      t.equal(clock.now(), machine.now())
    })

    t.test('nor with what a CA has issued that did not tell the time', async (t) => {
      const { machine, truth, clock } = heard()
      clock.vouch('b', issuedAt(truth()))
      t.equal(clock.now(), machine.now())
    })

    t.test('nor where another says something else', async (t) => {
      const { machine, truth, clock } = heard()
      clock.hear('b', truth() + MONTH / 2)
      clock.vouch('a', issuedAt(truth()))
      t.equal(clock.now(), machine.now())
    })

    t.test('nor against what two have agreed upon', async (t) => {
      const { truth, clock } = heard()
      clock.hear('b', truth())
      clock.hear('a', truth() + MONTH / 2)
      clock.vouch('a', issuedAt(truth() + MONTH / 2))
      t.equal(clock.now(), truth())
    })
  })
}

t.test('a CA whose own clock is wrong is not believed against the machine and another CA', async (t) => {
  const { machine, truth, clock } = setUp()
  clock.hear('a', truth() + MONTH)
  clock.hear('b', truth())
  clock.hear('a', truth() + MONTH)
  t.equal(clock.now(), machine.now())
})

t.test('CAs that all say something else prove nothing', async (t) => {
  const { machine, truth, clock } = setUp()
  for (const [index, witness] of ['a', 'b', 'c'].entries()) clock.hear(witness, truth() + (index + 1) * MONTH)
  t.equal(clock.now(), machine.now())
})

t.test('what nobody has confirmed for more than a day counts no more', async (t) => {
  const { machine, truth, clock } = setUp()
  clock.hear('a', truth())
  machine.jump(HOUR)
  await machine.advance(DAY)
  t.equal(clock.now(), truth())
  await machine.advance(1)
  t.equal(clock.now(), machine.now())
  clock.hear('b', truth())
  t.equal(clock.now(), machine.now(), 'nor as a witness')
})

t.test('a machine that has slept is right as soon as one CA says so', async (t) => {
  const { machine, truth, clock } = setUp()
  clock.hear('a', truth())
  clock.hear('b', truth())
  // The monotonic clock stands still meanwhile.
  machine.jump(8 * HOUR)
  t.equal(clock.errorMs, 8 * HOUR)
  clock.hear('a', machine.now())
  t.equal(clock.errorMs, 0)
})

t.test('below ten minutes the machine keeps the time', async (t) => {
  const { machine, truth, clock } = setUp()
  machine.jump(10 * MINUTE)
  clock.hear('a', truth())
  clock.hear('b', truth())
  t.equal(clock.now(), machine.now())
})

t.test('another process is believed at once, and listeners hear of it', async (t) => {
  const { machine, truth, clock } = setUp()
  const heard: number[] = []
  clock.onAttested(() => heard.push(clock.now()))
  machine.jump(-MONTH)
  clock.adopt(truth())
  t.same(heard, [truth()])
})

t.test('one CA alone leads a clock that was corrected nowhere, however small the steps', async (t) => {
  const { machine, truth, clock } = setUp()
  machine.jump(MONTH)
  clock.hear('a', truth())
  clock.hear('b', truth())
  for (let step = 1; step <= 100; step++) {
    await machine.advance(MINUTE)
    clock.hear('a', truth() + step * 9 * MINUTE)
    if (step % 5 === 0) clock.hear('b', truth())
    t.ok(Math.abs(clock.now() - truth()) <= 10 * MINUTE, `${step} steps`)
  }
})

t.test(
  'a machine that is right has no error, though its clock goes on between two looks at it',
  async (t) => {
    const machine = new VirtualClock()
    let readings = 0
    const now = (): number => machine.now() + readings++
    const clock = new AttestedClock(Object.assign(Object.create(machine), { now, monotonic: () => 0 }))
    clock.hear('a', machine.now())
    t.equal(clock.errorMs, 0)
  },
)
