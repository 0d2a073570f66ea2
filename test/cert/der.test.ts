import t from 'tap'
import { elementsIn, numberOf, TAG, unwrap } from '../../src/cert/der.ts'

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex')

t.test('reads the elements of a content one after the other', async (t) => {
  const elements = elementsIn(hex('0203 010203 0500 0401 ff'))
  t.same(
    elements.map(({ tag, content }) => [tag, content.toString('hex')]),
    [
      [TAG.integer, '010203'],
      [0x05, ''],
      [TAG.octetString, 'ff'],
    ],
  )
  t.same(
    elements.map(({ raw }) => raw.toString('hex')),
    ['0203010203', '0500', '0401ff'],
  )
})

t.test('reads lengths of several bytes', async (t) => {
  const content = Buffer.alloc(300, 7)
  t.strictSame(unwrap(Buffer.concat([hex('0482012c'), content]), TAG.octetString), content)
})

for (const [what, bytes] of [
  ['a lone tag', '04'],
  ['an element past the end', '0402 ff'],
  ['a length past the end', '0482 01'],
  ['an indefinite length', '3080 0000'],
  ['a length of five bytes', '0485 0000000001 ff'],
  ['a tag of two bytes', '1f81 00'],
] as const) {
  t.test(`refuses ${what}`, async (t) => {
    t.throws(() => elementsIn(hex(bytes)), RangeError)
  })
}

t.test('unwraps exactly one element of the tag that is asked for', async (t) => {
  t.throws(() => unwrap(hex('0401ff'), TAG.sequence), RangeError)
  t.throws(() => unwrap(hex('0401ff 0500'), TAG.octetString), RangeError)
  t.throws(() => unwrap(hex(''), TAG.octetString), RangeError)
})

t.test('numbers are small and not negative', async (t) => {
  t.equal(numberOf(hex('00')), 0)
  t.equal(numberOf(hex('0100')), 256)
  for (const bytes of ['', 'ff', '80000000', '0100000000']) t.throws(() => numberOf(hex(bytes)), RangeError)
})
