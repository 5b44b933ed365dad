/** What a worker does to be measured: operations one after the other, each timed. */

import { invariant } from '@sluice/core';
import { consecutiveRanges, sharedFloat32 } from './arrays.ts';
import type { MeasuredOperation } from './benchOperations.ts';
import type { Communicator } from './communicator.ts';
import type { Pending } from './group.ts';

export interface BenchRequest {
  readonly operation: MeasuredOperation;
  readonly mib: number;
  readonly iterations: number;
}

export interface BenchResult {
  /** Of each operation, ms. */
  readonly total: readonly number[];
  /** What of that passed before all had begun. */
  readonly waiting: readonly number[];
  /** Processor time of this process, all its threads, in each. */
  readonly cpu: readonly number[];
}

/** An operation on a buffer of which every rank has one part, filled with its number, and what comes of it. */
interface Measured {
  readonly fill: () => void;
  readonly launch: () => Pending;
  readonly isRight: () => boolean;
}

function measured(
  { rank, size, world }: Communicator,
  operation: MeasuredOperation,
  length: number,
): Measured {
  const buffer = sharedFloat32(length);
  const received = operation === 'allToAll' ? sharedFloat32(length) : buffer;
  const ends = Array.from({ length: size }, (_, part) => Math.floor((length * (part + 1)) / size));
  const parts = consecutiveRanges(ends.map((end, part) => end - (ends[part - 1] ?? 0)));
  const own = parts[rank]!;
  // Of an all-to-all, what goes from one rank to another is as long as what comes back.
  const even = parts.map(({ start }) => ({ start, end: start + Math.floor(length / size) }));
  const [first, last] = [own.start, own.end - 1];
  switch (operation) {
    case 'allReduce':
      return {
        fill: () => buffer.fill(1),
        launch: () => world.allReduce(buffer),
        isRight: () => buffer[0] === size && buffer[length - 1] === size,
      };
    case 'reduceScatter':
      return {
        fill: () => buffer.fill(1),
        launch: () => world.reduceScatter(buffer, parts),
        isRight: () => buffer[first] === size && buffer[last] === size,
      };
    case 'allGather':
      return {
        fill: () => buffer.fill(rank),
        launch: () => world.allGather(buffer, parts),
        isRight: () =>
          parts.every(({ start, end }, from) => buffer[start] === from && buffer[end - 1] === from),
      };
    case 'allToAll':
      return {
        fill: () => buffer.fill(rank),
        launch: () => world.allToAll(buffer, even, received, even),
        isRight: () =>
          even.every(({ start, end }, from) => received[start] === from && received[end - 1] === from),
      };
  }
}

/** All workers call this together. */
export function measureOperation(
  communicator: Communicator,
  { operation, mib, iterations }: BenchRequest,
): BenchResult {
  const { size, world } = communicator;
  const length = Math.max(size, Math.round(mib * 2 ** 18));
  const { fill, launch, isRight } = measured(communicator, operation, length);
  const total: number[] = [];
  const waiting: number[] = [];
  const cpu: number[] = [];
  for (let i = 0; i < iterations; i++) {
    fill();
    world.barrier().wait();
    const waited = communicator.blocked.waiting;
    const used = process.cpuUsage();
    const start = performance.now();
    launch().wait();
    total.push(performance.now() - start);
    const { user, system } = process.cpuUsage(used);
    cpu.push((user + system) / 1e3);
    waiting.push((communicator.blocked.waiting - waited) * 1e3);
    invariant(isRight(), `${operation} gives every rank what it is to have`);
  }
  return { total, waiting, cpu };
}
