import { join } from 'node:path';
import { SafetensorsFile, writeSafetensors } from '@sluice/checkpoint';
import test from 'ava';
import fc from 'fast-check';
import { roundToHalf } from '../../packages/checkpoint/src/halfPrecision.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

/** The neighbour of `value` that is nearer; of two equally near ones the one of even bits. */
function nearer(value: number, below: number, positive: Float32Array): number {
  const [low, high] = [value - positive[below]!, positive[below + 1]! - value];
  return low < high || (low === high && below % 2 === 0) ? below : below + 1;
}

for (const type of ['F16', 'BF16'] as const) {
  test(`${type}: every number stays itself, and any other goes to the nearest, ties to even`, async (t) => {
    const path = join(temporaryDirectory(t), 'all.safetensors');
    const values = Uint16Array.from({ length: 1 << 16 }, (_, i) => i);
    await writeSafetensors(path, [{ name: 'all', dtype: type, shape: [1 << 16], values }]);
    const file = await SafetensorsFile.open(path);
    const all = new Float32Array(1 << 16);
    await file.readFloats('all', all);
    await file.close();

    const { bits, overflow } = roundToHalf(all, type);
    t.is(overflow, -1);
    for (let i = 0; i < all.length; i++) {
      if (Number.isNaN(all[i])) {
        if (!Number.isNaN(all[bits[i]!])) t.fail(`NaN ${i} became ${bits[i]}`);
      } else if (bits[i] !== i) t.fail(`${i} became ${bits[i]}`);
    }

    // The finite numbers that are not negative, in ascending order: their bits are 0, 1, 2, …
    const positive = all.subarray(0, type === 'F16' ? 0x7c00 : 0x7f80);
    const rounded = (value: number) => roundToHalf(Float32Array.of(value), type).bits[0]!;
    const near = fc.integer({ min: 0, max: positive.length - 2 });
    fc.assert(
      fc.property(near, fc.double({ min: 0, max: 1, noNaN: true }), (below, share) => {
        const [low, high] = [positive[below]!, positive[below + 1]!];
        const value = Math.fround(low + share * (high - low));
        t.is(rounded(value), nearer(value, below, positive));
        t.is(rounded(-value), rounded(value) | 0x8000);
        const half = low + (high - low) / 2;
        if (Math.fround(half) === half) t.is(rounded(half), below % 2 === 0 ? below : below + 1);
      }),
      { numRuns: 2000 },
    );
  });
}

test('values beyond the largest number become infinite, and are told', (t) => {
  const f16 = roundToHalf(Float32Array.of(1, 65519, 65520, -1e9), 'F16');
  t.deepEqual([...f16.bits], [0x3c00, 0x7bff, 0x7c00, 0xfc00]);
  t.is(f16.overflow, 2);
  const bf16 = roundToHalf(Float32Array.of(3.4e38, 1e-45, Number.POSITIVE_INFINITY), 'BF16');
  t.deepEqual([...bf16.bits], [0x7f80, 0, 0x7f80]);
  t.is(bf16.overflow, 0);
  t.is(roundToHalf(Float32Array.of(Number.NEGATIVE_INFINITY, Number.NaN), 'F16').overflow, -1);
});
