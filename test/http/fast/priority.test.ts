import t from 'tap'
import { inOrder, readPriority, UNSAID } from '../../../src/http/fast/priority.ts'

for (const [field, urgency, incremental] of [
  ['u=0', 0, false],
  ['u=7, i', 7, true],
  ['i', 3, true],
  ['i=?1', 3, true],
  ['i=?0', 3, false],
  ['u=5,i=?0', 5, false],
  ['u=1;x=2, i;y', 1, true],
  ['u=1, u=6', 6, false],
  ['future=3, u=2', 2, false],
  ['u=8', 3, false],
  ['u=-1', 3, false],
  ['u=10', 3, false],
  ['i=1', 3, false],
  ['U=1', 3, false],
  ['', 3, false],
  ['gibberish "', 3, false],
] as const) {
  t.test(`Priority: ${field || 'empty'}`, async (t) => {
    t.same(readPriority(field), { urgency, incremental })
  })
}

t.test(
  'urgent streams come first, then by age, and those that are shown as they come take turns',
  async (t) => {
    const stream = (id: number, field?: string) => ({
      id,
      priority: field === undefined ? UNSAID : readPriority(field),
    })
    const streams = [
      stream(9),
      stream(7, 'u=4'),
      stream(5, 'u=3'),
      stream(3),
      stream(1, 'u=3'),
      stream(11, 'u=0, i'),
    ]
    t.same(
      streams.sort(inOrder).map(({ id }) => id),
      [11, 1, 5, 9, 3, 7],
    )
  },
)
