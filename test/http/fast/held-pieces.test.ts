import t from 'tap'
import { HeldPieces } from '../../../src/http/fast/held-pieces.ts'

/** What comes out, buffer by buffer. */
function drained(held: HeldPieces): Buffer[] {
  const out: Buffer[] = []
  while (held.bytes > 0) out.push(held.take())
  return out
}

/** The octets that buffers hold on to, each buffer's once. */
function retained(buffers: readonly Buffer[]): number {
  const stores = new Set(buffers.map(({ buffer }) => buffer))
  return [...stores].reduce((sum, { byteLength }) => sum + byteLength, 0)
}

t.test('pieces of one octet cost about their size, and come out in order', async (t) => {
  const read = Buffer.from(Array.from({ length: 200_000 }, (_, i) => i % 251))
  const held = new HeldPieces()
  for (let i = 0; i < read.length; i++) held.push(read.subarray(i, i + 1))
  t.equal(held.bytes, read.length)
  const out = drained(held)
  t.ok(out.length <= 4, `${out.length} buffers`)
  t.ok(retained(out) <= 4 * 65_536, `${retained(out)} octets`)
  t.ok(Buffer.concat(out).equals(read))
})

t.test('a large piece is taken over as it is, and a small part of a read is not', async (t) => {
  const held = new HeldPieces()
  const read = Buffer.alloc(65_536, 'a')
  held.push(Buffer.from('small'))
  held.push(read)
  held.push(read.subarray(0, 10_000))
  const [small, large, part] = drained(held)
  t.equal(String(small), 'small')
  t.equal(large, read)
  t.equal(part?.length, 10_000)
  t.not(part?.buffer, read.buffer)
})

t.test('a piece that is alone is taken over, however small', async (t) => {
  const held = new HeldPieces()
  const read = Buffer.alloc(100, 'a')
  held.push(read)
  t.equal(held.take(), read)
})

t.test('what is appended is a copy, whatever its size', async (t) => {
  const held = new HeldPieces()
  const reused = Buffer.alloc(100_000, 'a')
  held.append(reused, 0, reused.length)
  reused.fill('b')
  held.append(reused, 0, 1)
  t.equal(Buffer.concat(drained(held)).toString(), `${'a'.repeat(100_000)}b`)
})

t.test('parts are taken out while more comes in', async (t) => {
  const held = new HeldPieces()
  let out = ''
  for (const piece of ['one', ' two', ' three', ' four']) {
    held.push(Buffer.from(piece))
    out += held.take(2)
    out += held.first.toString('latin1', 0, 1)
    held.drop(1)
  }
  t.equal(held.bytes, 'one two three four'.length - out.length)
  t.equal(out + Buffer.concat(drained(held)), 'one two three four')
})

t.test('cleared, it holds nothing', async (t) => {
  const held = new HeldPieces()
  held.push(Buffer.from('one'))
  held.push(Buffer.alloc(10_000))
  held.push(Buffer.from('two'))
  held.clear()
  t.equal(held.bytes, 0)
  held.push(Buffer.from('three'))
  t.equal(String(Buffer.concat(drained(held))), 'three')
})
