import t from 'tap'
import { elementsIn, encode, numberOf, spanAt, TAG, timeOf, unwrap } from '../../src/cert/der.ts'

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

const time = (tag: number, text: string) => timeOf(elementsIn(encode(tag, Buffer.from(text)))[0]!)

t.test('times are of this century or the last, or written out', async (t) => {
  t.equal(time(TAG.utcTime, '491231235959Z'), Date.parse('2049-12-31T23:59:59Z'))
  t.equal(time(TAG.utcTime, '500101000000Z'), Date.parse('1950-01-01T00:00:00Z'))
  t.equal(time(TAG.generalizedTime, '20500101000000Z'), Date.parse('2050-01-01T00:00:00Z'))
})

for (const [tag, text] of [
  [TAG.utcTime, '2601010000Z'],
  [TAG.utcTime, '260101000000+0100'],
  [TAG.utcTime, '261301000000Z'],
  [TAG.generalizedTime, '20260101000000.5Z'],
  [TAG.generalizedTime, '260101000000Z'],
  [TAG.octetString, '20260101000000Z'],
  [TAG.utcTime, ''],
] as const) {
  t.test(`refuses the time "${text}" of tag ${tag}`, async (t) => {
    t.throws(() => time(tag, text), RangeError)
  })
}

t.test('walks without views, within a limit', async (t) => {
  const bytes = hex('0203 010203 0401 ff')
  t.same(spanAt(bytes, 5, bytes.length), { tag: TAG.octetString, from: 7, end: 8 })
  t.throws(() => spanAt(bytes, 0, 4), RangeError)
})

t.test('reads what it has written, of every length of length', async (t) => {
  for (const length of [0, 1, 127, 128, 255, 256, 65_535]) {
    const content = Buffer.alloc(length, 7)
    const [first, second] = [content.subarray(0, length / 2), content.subarray(length / 2)]
    t.strictSame(unwrap(encode(TAG.octetString, first, second), TAG.octetString), content)
  }
  t.equal(encode(TAG.sequence, encode(TAG.null)).toString('hex'), '30020500')
})
