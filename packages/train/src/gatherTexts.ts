/** A text of each worker for all of them. */

import { consecutiveRanges, type Group, sharedFloat64 } from '@sluice/collectives';

/** All workers of the group call it together. @returns in order of ranks */
export function gatherTexts(group: Group, own: string): string[] {
  const bytes = new TextEncoder().encode(own);
  const lengths = sharedFloat64(group.size);
  lengths[group.rank] = bytes.length;
  group.allReduce(lengths).wait();
  const ranges = consecutiveRanges([...lengths]);
  const all = new Uint8Array(new SharedArrayBuffer(ranges.at(-1)!.end));
  all.set(bytes, ranges[group.rank]!.start);
  group.allGather(all, ranges).wait();
  // Decoders refuse shared memory.
  return ranges.map(({ start, end }) => new TextDecoder().decode(all.slice(start, end)));
}
