/** Frames that nobody could have meant, drawn from a seed: noise, and what was once a message. */

import { randomKey, randomPair } from '@sluice/core';
import type { ExecutionContext } from 'ava';
import { Packr } from 'msgpackr';

/** How many a test sends; SLUICE_FUZZ_FRAMES=1000000 for a long one. */
export const FRAMES = Number(process.env.SLUICE_FUZZ_FRAMES ?? 3000);

/** Lets a long one take its time. Not the usual one: ava would wait as long for whatever hangs in any file. */
export function allowLongRun(t: ExecutionContext): void {
  if (process.env.SLUICE_FUZZ_FRAMES !== undefined) t.timeout(3_600_000);
}

const packr = new Packr({ useRecords: false });

const VALUES: readonly unknown[] = [
  null,
  -1,
  Number.NaN,
  2 ** 53,
  '',
  'x'.repeat(5000),
  [],
  {},
  [[[[[[]]]]]],
  { __proto__: null, constructor: 1 },
  Buffer.alloc(0),
  true,
];

/**
 * @param messages [version, kind, body] of real messages
 * @returns `count` frames
 */
export function* malformedFrames(
  seed: number,
  count: number,
  messages: readonly (readonly [number, string, Readonly<Record<string, unknown>>])[],
): Generator<Buffer> {
  const key = randomKey(seed, 'malformed');
  let drawn = 0;
  const below = (limit: number) => Math.floor((randomPair(key, drawn++)[0] / 2 ** 32) * limit);
  for (let i = 0; i < count; i++) {
    const [version, kind, body] = messages[below(messages.length)]!;
    switch (i % 4) {
      case 0:
        yield Buffer.from(Array.from({ length: below(200) }, () => below(256)));
        break;
      case 1: {
        // Some bytes of a real one are others.
        const frame = packr.pack([version, kind, body]);
        for (let changes = 1 + below(4); changes > 0; changes--) frame[below(frame.length)] = below(256);
        yield frame.subarray(0, below(2) ? frame.length : below(frame.length));
        break;
      }
      case 2: {
        // A field is something else, or lacks, or is one too many.
        const names = [...Object.keys(body), 'extra'];
        yield packr.pack([
          version,
          kind,
          { ...body, [names[below(names.length)]!]: VALUES[below(VALUES.length)] },
        ]);
        break;
      }
      default:
        yield packr.pack([version, below(2) ? kind : 'nonsense', VALUES[below(VALUES.length)]]);
    }
  }
}
