import { copyInto } from '@sluice/engine/memory';
import test from 'ava';
import fc from 'fast-check';

const TYPES = { Float32Array, Float64Array, Int32Array, Uint8Array };

const placed = fc.record({
  type: fc.constantFrom(...(Object.keys(TYPES) as (keyof typeof TYPES)[])),
  length: fc.oneof(fc.nat(40), fc.integer({ min: 500, max: 9000 })),
  to: fc.nat(9),
  from: fc.nat(9),
  isShared: fc.tuple(fc.boolean(), fc.boolean()),
  isWithin: fc.boolean(),
});

test('values are copied as `set` copies them: of shared memory and of one’s own, from any place, also onto themselves', (t) => {
  fc.assert(
    fc.property(placed, ({ type, length, to, from, isShared, isWithin }) => {
      const Type = TYPES[type];
      const width = Type.BYTES_PER_ELEMENT;
      const memory = (shared: boolean) => {
        const bytes = new Uint8Array(
          shared ? new SharedArrayBuffer((length + 20) * width) : new ArrayBuffer((length + 20) * width),
        );
        for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 37 + (shared ? 5 : 0)) % 251;
        return bytes;
      };
      const target = memory(isShared[0]);
      const source = isWithin ? target : memory(isShared[1]);
      const expected = target.slice();
      expected.set(source.slice(from * width, (from + length) * width), to * width);
      // One element longer than what is copied.
      const array = ({ buffer }: Uint8Array, start: number, count: number) =>
        new Type(buffer as ArrayBuffer, start * width, count) as Uint8Array;
      copyInto(array(target, to, length + 1), array(source, from, length));
      t.deepEqual(Buffer.from(target), Buffer.from(expected));
    }),
    { numRuns: 200 },
  );
});

test('what is longer than its place is refused, and nothing is copied', (t) => {
  for (const length of [20, 8000]) {
    const memory = new Float32Array(length + 10);
    t.throws(() => copyInto(memory.subarray(0, length), new Float32Array(length + 1).fill(1)));
    t.true(memory.every((value) => value === 0));
  }
});
