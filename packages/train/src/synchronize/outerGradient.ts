/**
 * The sum of the replicas' differences, over all workers that own the same parts of them. It is formed by a binary tree over the
 * replicas, so that it has the same bits however many of them a worker has.
 */

import { consecutiveRanges, type ElementRange, type Group } from '@sluice/collectives';
import { sumTree } from '@sluice/engine';
import { decode, encode, encodedBytes, GROUP_VALUES } from './quantize.ts';

/** A sum that is on its way, beside whatever else the workers do. All of the group call the same of it in the same order. */
export interface SumUnderway {
  /** Half of the way: what begins only once that is over is begun. Blocks until then. */
  turn(): void;
  /** Blocks until the sum is there. */
  wait(): void;
}

/**
 * @param group of workers, each with equally many neighbouring replicas
 * @param differences of the own replicas, in order, which stay as they are
 * @param sum in shared memory, belongs to the operation until it is over; may be the first of the differences
 */
export function sumDifferences(
  group: Group,
  differences: readonly Float32Array[],
  sum: Float32Array,
): SumUnderway {
  sumTree(sum, differences);
  const pending = group.allReduce(sum);
  return { turn: () => {}, wait: () => pending.wait() };
}

/**
 * The same with 8 bits a value on the way: each replica's differences are rounded, each worker sums a part of them, and the sums are
 * rounded once more before they travel back, which is from the turn on. All of that is done also where nothing travels.
 */
export function sumQuantized(
  group: Group,
  differences: readonly Float32Array[],
  sum: Float32Array,
): SumUnderway {
  const parts = partsOf(sum.length, group.size);
  let there: Arrival<Float32Array> | undefined = sendToOwners(group, differences, parts);
  let back: Arrival<void> | undefined;
  const turn = () => {
    if (there === undefined) return;
    back = sendBack(group, there(), parts, sum);
    there = undefined;
  };
  return {
    turn,
    wait() {
      turn();
      back!();
    },
  };
}

/** Waits for what is on its way, and gives it. */
type Arrival<Of> = () => Of;

/** @returns the sum over all replicas of this worker's part */
function sendToOwners(
  group: Group,
  differences: readonly Float32Array[],
  parts: readonly ElementRange[],
): Arrival<Float32Array> {
  const outgoing = parts.map(({ start, end }) =>
    start === end ? [] : differences.map((values) => encode(values.subarray(start, end))),
  );
  const sendRanges = consecutiveRanges(
    outgoing.map((pieces) => pieces.reduce((sum, { length }) => sum + length, 0)),
  );
  const send = sharedBytes(sendRanges.at(-1)!.end);
  outgoing.forEach((pieces, rank) => {
    let at = sendRanges[rank]!.start;
    for (const piece of pieces) {
      send.set(piece, at);
      at += piece.length;
    }
  });
  const own = parts[group.rank]!;
  const length = own.end - own.start;
  const bytes = encodedBytes(length);
  const receiveRanges = consecutiveRanges(parts.map(() => bytes * differences.length));
  const received = sharedBytes(receiveRanges.at(-1)!.end);
  const pending = group.allToAll(send, sendRanges, received, receiveRanges);
  return () => {
    pending.wait();
    const replicas = Array.from({ length: group.size * differences.length }, (_, replica) => {
      const values = new Float32Array(length);
      if (length > 0) decode(received.subarray(replica * bytes, (replica + 1) * bytes), values);
      return values;
    });
    sumTree(replicas[0]!, replicas);
    return replicas[0]!;
  };
}

/** @param own sum of this worker's part */
function sendBack(
  group: Group,
  own: Float32Array,
  parts: readonly ElementRange[],
  sum: Float32Array,
): Arrival<void> {
  const ranges = consecutiveRanges(parts.map(({ start, end }) => encodedBytes(end - start)));
  const all = sharedBytes(ranges.at(-1)!.end);
  if (own.length > 0) all.set(encode(own), ranges[group.rank]!.start);
  const pending = group.allGather(all, ranges);
  return () => {
    pending.wait();
    parts.forEach(({ start, end }, rank) => {
      const { start: from, end: to } = ranges[rank]!;
      if (end > start) decode(all.subarray(from, to), sum.subarray(start, end));
    });
  };
}

function sharedBytes(length: number): Uint8Array {
  return new Uint8Array(new SharedArrayBuffer(length));
}

/** Cuts between groups of values that share a scale, as evenly as these allow, so that the cuts change no bit. */
function partsOf(length: number, size: number): ElementRange[] {
  const groups = Math.ceil(length / GROUP_VALUES);
  const cut = (rank: number) => Math.min(length, Math.floor((groups * rank) / size) * GROUP_VALUES);
  return Array.from({ length: size }, (_, rank) => ({ start: cut(rank), end: cut(rank + 1) }));
}
