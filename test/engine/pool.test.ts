import test from 'ava';
import fc from 'fast-check';
import { BufferPool } from '../../packages/engine/src/pool.ts';

const sum = (sizes: readonly number[]) => sizes.reduce((a, b) => a + b, 0);

test('a lent buffer is large enough and nobody else’s, whatever is taken and given', (t) => {
  const step = fc.record({ isTake: fc.boolean(), number: fc.integer({ min: 0, max: 300_000 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const pool = new BufferPool();
      const lent: ArrayBuffer[] = [];
      return steps.every(({ isTake, number }) => {
        if (!isTake && lent.length > 0) pool.give(lent.splice(number % lent.length, 1)[0]!);
        const buffer = isTake ? pool.take(number) : undefined;
        const isFit =
          !buffer || (buffer.byteLength >= number && buffer.byteLength <= 2 * (number * 1.125 + 4096));
        const isFree = !buffer || !lent.includes(buffer);
        if (buffer) lent.push(buffer);
        const { usedBytes, allocatedBytes, peakUsedBytes } = pool.statistics();
        const lentBytes = sum(lent.map(({ byteLength }) => byteLength));
        const isCounted = usedBytes <= lentBytes && usedBytes >= lentBytes / 2;
        return isFit && isFree && isCounted && usedBytes <= allocatedBytes && usedBytes <= peakUsedBytes;
      });
    }),
    { numRuns: 100 },
  );
  t.pass();
});

test('the same requests in the same order make nothing new', (t) => {
  const pool = new BufferPool();
  const step = () => {
    const buffers = [5000, 100_000, 5000, 0, 100_000].map((size) => pool.take(size));
    for (const buffer of buffers) pool.give(buffer);
  };
  step();
  const { buffersMade, allocatedBytes } = pool.statistics();
  for (let i = 0; i < 20; i++) step();
  t.is(pool.statistics().buffersMade, buffersMade);
  t.is(pool.statistics().allocatedBytes, allocatedBytes);
  t.is(pool.statistics().buffersReused, 20 * 5);
});

test('a larger free buffer serves, the least first, before a new one is made', (t) => {
  const pool = new BufferPool();
  for (const buffer of [16_384, 12_288].map((size) => pool.take(size))) pool.give(buffer);
  t.is(pool.take(8192).byteLength, 12_288);
  t.is(pool.take(8192).byteLength, 16_384);
  t.is(pool.statistics().usedBytes, 16_384);
  t.is(pool.take(8192).byteLength, 8192);
  const half = new BufferPool();
  half.give(half.take(16_384));
  t.is(half.take(7168).byteLength, 7168, 'but none that is more than twice as large');
});

test('sizes that change all the time do not pile up', (t) => {
  const mebi = 2 ** 20;
  // Stands in for memory, of which only the size matters here.
  const pool = new BufferPool((byteLength) => ({ byteLength }) as ArrayBuffer);
  for (let step = 0; step < 400; step++) {
    const buffers = [1, 2, 3].map((k) => pool.take(((step * 7 * k) % 24) * mebi + 4 * mebi));
    for (const buffer of buffers) pool.give(buffer);
  }
  const { allocatedBytes, peakUsedBytes, buffersDropped } = pool.statistics();
  t.true(allocatedBytes <= 1.5 * peakUsedBytes + 32 * mebi);
  t.true(buffersDropped > 0);
  pool.trim();
  t.is(pool.statistics().allocatedBytes, 0);
});

test('buffers that are lent for less than their size count whole, so none is dropped that the next step needs', (t) => {
  const mebi = 2 ** 20;
  const pool = new BufferPool((byteLength) => ({ byteLength }) as ArrayBuffer);
  const take = (count: number, mebibytes: number) =>
    Array.from({ length: count }, () => pool.take(mebibytes * mebi));
  const giveAll = (buffers: readonly ArrayBuffer[]) => {
    for (const buffer of buffers) pool.give(buffer);
  };
  const step = () => {
    giveAll(take(10, 96));
    // Each of these gets one of the buffers of twice its size, which 28 and 12 do not fit.
    const halves = take(10, 48);
    giveAll(take(16, 28));
    giveAll(take(10, 12));
    giveAll(halves);
  };
  step();
  const { buffersMade } = pool.statistics();
  t.is(buffersMade, 10 + 16 + 10);
  step();
  t.is(pool.statistics().buffersMade, buffersMade);
  t.is(pool.statistics().buffersDropped, 0);
});

test('a buffer cannot be given back twice, nor one that was never lent', (t) => {
  const pool = new BufferPool();
  const buffer = pool.take(10);
  t.true(pool.hasLent(buffer));
  pool.give(buffer);
  t.false(pool.hasLent(buffer));
  t.throws(() => pool.give(buffer), { message: /twice/ });
  t.throws(() => pool.give(new ArrayBuffer(4096)), { message: /did not lend/ });
});
