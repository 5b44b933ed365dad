import {
  ADAMW_KINDS,
  beginCheckpoint,
  type CheckpointReader,
  commitCheckpoint,
  type LogicalTensor,
  type Manifest,
  numElements,
  type Piece,
  type SavedTensor,
  TENSOR_KINDS,
  type TensorKind,
  tensorsOfKind,
  writeShard,
} from '@sluice/checkpoint';
import { BLOCK_ELEMENTS, type FileOperations, randomKey } from '@sluice/core';
import fc from 'fast-check';
import { hastyFiles } from './faultyFiles.ts';

/** The content of a tensor, a function of seed, kind and name alone: arbitrary bits, NaNs and infinities among them. */
export function valuesOf(seed: number, kind: TensorKind, tensor: LogicalTensor): Float32Array {
  const bits = new Uint32Array(numElements(tensor.shape));
  let state = randomKey(seed, kind, tensor.name).low;
  for (let i = 0; i < bits.length; i++) {
    // A linear congruential generator (Numerical Recipes): here any bits will do, and quickly.
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bits[i] = state;
  }
  return new Float32Array(bits.buffer);
}

/** How many blocks each successive piece of a tensor has, and which worker owns it; used up cyclically. */
export interface Sharding {
  readonly world: number;
  readonly cuts: readonly { readonly blocks: number; readonly owner: number }[];
}

/** The pieces of all tensors of all kinds, as they lie with each of the workers. */
export function shard(
  tensors: readonly SavedTensor[],
  sharding: Sharding,
  seed: number,
  kinds: readonly TensorKind[] = ADAMW_KINDS,
): Piece[][] {
  const workers: Piece[][] = Array.from({ length: sharding.world }, () => []);
  let next = 0;
  for (const kind of TENSOR_KINDS) {
    for (const { name, shape } of tensorsOfKind(tensors, kinds, kind)) {
      const tensor = { name, shape };
      const all = valuesOf(seed, kind, tensor);
      for (let begin = 0; begin < all.length; ) {
        const { blocks, owner } = sharding.cuts[next++ % sharding.cuts.length]!;
        const end = Math.min(begin + blocks * BLOCK_ELEMENTS, all.length);
        const piece = { tensor, kind, begin, end, values: all.subarray(begin, end) };
        workers[owner % sharding.world]!.push(piece);
        begin = end;
      }
    }
  }
  return workers;
}

export const shardings: fc.Arbitrary<Sharding> = fc.record({
  world: fc.integer({ min: 1, max: 4 }),
  cuts: fc.array(fc.record({ blocks: fc.integer({ min: 1, max: 4 }), owner: fc.nat(3) }), {
    minLength: 1,
    maxLength: 8,
  }),
});

const shapes = fc.oneof(
  fc.constant([]),
  fc.tuple(fc.integer({ min: 1, max: 12_300 })),
  fc.tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 300 })),
  fc.constantFrom([BLOCK_ELEMENTS], [2, BLOCK_ELEMENTS], [3, 8, 512]),
);

export const tensorLists: fc.Arbitrary<LogicalTensor[]> = fc
  .array(shapes, { minLength: 1, maxLength: 4 })
  .map((list) => list.map((shape, i) => ({ name: `model.layers.${i}.weight`, shape })));

export const SMALL: readonly LogicalTensor[] = [
  { name: 'model.embed.weight', shape: [3, BLOCK_ELEMENTS] },
  { name: 'model.norm.weight', shape: [5] },
];

export const TWO_WORKERS: Sharding = {
  world: 2,
  cuts: [
    { blocks: 2, owner: 0 },
    { blocks: 1, owner: 1 },
  ],
};

export interface SaveOptions {
  readonly tensors?: readonly SavedTensor[];
  readonly sharding?: Sharding;
  readonly seed?: number;
  readonly kinds?: readonly TensorKind[];
  readonly files?: FileOperations;
}

/** Saves a whole checkpoint as coordinator and workers together would. */
export async function save(run: string, step: number, options: SaveOptions = {}): Promise<Manifest> {
  const { tensors = SMALL, sharding = TWO_WORKERS, seed = step, kinds = ADAMW_KINDS } = options;
  const { files = hastyFiles } = options;
  const directory = await beginCheckpoint(run, step, files);
  const shards = [];
  for (const [rank, pieces] of shard(tensors, sharding, seed, kinds).entries()) {
    // Records travel from workers to the coordinator as data.
    shards.push(JSON.parse(JSON.stringify(await writeShard(directory, rank, pieces, { files }))));
  }
  const state = { order: { position: step * 8 } };
  const config = { seed, model: { hiddenSize: 4 } };
  const request = {
    directory,
    step,
    tensors,
    kinds,
    shards,
    config,
    configHash: 'c0',
    state,
    probe: { loss: 2.5 },
  };
  return commitCheckpoint(request, files);
}

/** Whether a checkpoint reads as exactly the content of `seed`. */
export async function holds(
  reader: CheckpointReader,
  tensors: readonly LogicalTensor[],
  seed: number,
  kinds: readonly TensorKind[] = ADAMW_KINDS,
): Promise<boolean> {
  for (const kind of kinds) {
    for (const tensor of tensors) {
      const expected = valuesOf(seed, kind, tensor);
      const found = new Float32Array(expected.length);
      await reader.readRange(kind, tensor.name, 0, found.length, found);
      if (!Buffer.from(found.buffer).equals(Buffer.from(expected.buffer))) return false;
    }
  }
  return true;
}
