/**
 * The sum of the replicas' differences, over all workers that own the same parts of them. It is formed by a binary tree over the
 * replicas, so that it has the same bits however many of them a worker has.
 */

import { consecutiveRanges, type ElementRange, type Group } from '@sluice/collectives';
import { sumTree } from '@sluice/engine';
import { decode, encode, encodedBytes, GROUP_VALUES } from './quantize.ts';

/**
 * @param group of workers, each with equally many neighbouring replicas
 * @param differences of the own replicas, in order; what is in them afterwards is undefined. The first lies in shared memory, and gets
 *   the sum.
 */
export function sumDifferences(group: Group, differences: readonly Float32Array[]): void {
  const [sum] = differences;
  sumTree(sum!, differences);
  if (group.size > 1) group.allReduce(sum!).wait();
}

/**
 * The same with 8 bits a value on the way: each replica's differences are rounded, each worker sums a part of them, and the sums are
 * rounded once more before they travel back. All of that is done also where nothing travels.
 */
export function sumQuantized(group: Group, differences: readonly Float32Array[]): void {
  const [result] = differences;
  const parts = partsOf(result!.length, group.size);
  const own = parts[group.rank]!;
  const sums = sumOwnPart(group, differences, parts);
  const lengths = parts.map(({ start, end }) => encodedBytes(end - start));
  const ranges = consecutiveRanges(lengths);
  const all = new Uint8Array(new SharedArrayBuffer(ranges.at(-1)!.end));
  if (own.end > own.start) all.set(encode(sums), ranges[group.rank]!.start);
  group.allGather(all, ranges).wait();
  parts.forEach(({ start, end }, rank) => {
    const { start: from, end: to } = ranges[rank]!;
    if (end > start) decode(all.subarray(from, to), result!.subarray(start, end));
  });
}

/** The sum over all replicas of this worker's part. */
function sumOwnPart(
  group: Group,
  differences: readonly Float32Array[],
  parts: readonly ElementRange[],
): Float32Array {
  const own = parts[group.rank]!;
  const length = own.end - own.start;
  const outgoing = parts.map(({ start, end }) =>
    start === end ? [] : differences.map((values) => encode(values.subarray(start, end))),
  );
  const sendRanges = consecutiveRanges(
    outgoing.map((pieces) => pieces.reduce((sum, { length }) => sum + length, 0)),
  );
  const send = new Uint8Array(sendRanges.at(-1)!.end);
  outgoing.forEach((pieces, rank) => {
    let at = sendRanges[rank]!.start;
    for (const piece of pieces) {
      send.set(piece, at);
      at += piece.length;
    }
  });
  const bytes = encodedBytes(length);
  const receiveRanges = consecutiveRanges(parts.map(() => bytes * differences.length));
  const received = new Uint8Array(receiveRanges.at(-1)!.end);
  group.allToAll(send, sendRanges, received, receiveRanges).wait();
  const replicas = Array.from({ length: group.size * differences.length }, (_, replica) => {
    const values = new Float32Array(length);
    if (length > 0) decode(received.subarray(replica * bytes, (replica + 1) * bytes), values);
    return values;
  });
  sumTree(replicas[0]!, replicas);
  return replicas[0]!;
}

/** Cuts between groups of values that share a scale, as evenly as these allow, so that the cuts change no bit. */
function partsOf(length: number, size: number): ElementRange[] {
  const groups = Math.ceil(length / GROUP_VALUES);
  const cut = (rank: number) => Math.min(length, Math.floor((groups * rank) / size) * GROUP_VALUES);
  return Array.from({ length: size }, (_, rank) => ({ start: cut(rank), end: cut(rank + 1) }));
}
