/**
 * AdamW with decoupled weight decay (Loshchilov & Hutter, 2019), sharded: each worker keeps the moments of its own
 * slices, updates them, and sends the new values to the workers that hold the same parameters (ZeRO stage 1).
 */

import { BLOCK_ELEMENTS } from '@sluice/core';
import { adamW, squaredNorms } from '@sluice/engine';
import type { BlockLayout } from './blockLayout.ts';
import type { RunConfig } from './config.ts';
import type { FlatSpace, OwnedPiece } from './flatSpace.ts';

/** A piece with views of everything that an update touches. */
export interface OptimizedPiece extends OwnedPiece {
  readonly values: Float32Array;
  readonly firstMoment: Float32Array;
  readonly secondMoment: Float32Array;
}

/** Pieces that follow each other in memory and in the numbers of their blocks: a kernel takes them all at once. */
interface Stretch
  extends Pick<OptimizedPiece, 'values' | 'firstMoment' | 'secondMoment' | 'flatOffset' | 'decay'> {
  readonly firstBlock: number;
}

export class ShardedAdamW {
  readonly #config: RunConfig['optimizer'];
  readonly #space: FlatSpace;
  readonly pieces: readonly OptimizedPiece[];
  readonly #stretches: readonly Stretch[];

  constructor(config: RunConfig['optimizer'], space: FlatSpace, blocks: BlockLayout) {
    this.#config = config;
    this.#space = space;
    const owned = space.ownedPieces.reduce((sum, piece) => sum + piece.end - piece.begin, 0);
    const first = new Float32Array(owned);
    const second = new Float32Array(owned);
    let offset = 0;
    this.pieces = space.ownedPieces.map((piece) => {
      const length = piece.end - piece.begin;
      const part = (array: Float32Array, start: number) => array.subarray(start, start + length);
      const views = {
        values: part(space.values, piece.flatOffset),
        firstMoment: part(first, offset),
        secondMoment: part(second, offset),
      };
      offset += length;
      return { ...piece, ...views };
    });
    this.#stretches = stretchesOf(this.pieces, blocks);
  }

  /** Sums of squares of the gradient's blocks that this worker owns, each at the block's place in the whole model. */
  measure(gradients: Float32Array, squares: Float64Array): void {
    for (const { values, flatOffset, firstBlock } of this.#stretches) {
      squares.set(squaredNorms(gradients.subarray(flatOffset, flatOffset + values.length)), firstBlock);
    }
  }

  /**
   * Updates the owned pieces in place.
   * @param step 1 for the first; corrects the bias of the moments
   * @param gradientScale factor that clips the gradient, 1 for none
   */
  update(gradients: Float32Array, step: number, learningRate: number, gradientScale: number): void {
    const { beta1, beta2, epsilon, weightDecay } = this.#config;
    for (const { values, firstMoment, secondMoment, flatOffset, decay } of this.#stretches) {
      adamW(
        {
          parameters: values,
          gradients: gradients.subarray(flatOffset, flatOffset + values.length),
          firstMoment,
          secondMoment,
        },
        { learningRate, beta1, beta2, epsilon, weightDecay: decay ? weightDecay : 0, step, gradientScale },
      );
    }
  }

  /** Gives every worker of the group the values that the others have updated. */
  share(): void {
    const { group, values } = this.#space;
    if (group.size > 1) {
      const stages = this.#space.stages.map((stage) => this.#space.stage(stage)!);
      const pending = stages.map(({ slices }) => group.allGather(values, slices));
      for (const gather of pending) gather.wait();
    }
    for (const { parameter } of this.#space.parameters) parameter.refresh();
  }
}

function stretchesOf(pieces: readonly OptimizedPiece[], { firstBlocks }: BlockLayout): Stretch[] {
  const stretches: Stretch[] = [];
  for (const { tensor, begin, values, firstMoment, secondMoment, flatOffset, decay } of pieces) {
    const firstBlock = firstBlocks.get(tensor.name)! + begin / BLOCK_ELEMENTS;
    const stretch: Stretch = { values, firstMoment, secondMoment, flatOffset, decay, firstBlock };
    const last = stretches.at(-1);
    if (last && follows(last, stretch)) stretches[stretches.length - 1] = join(last, stretch);
    else stretches.push(stretch);
  }
  return stretches;
}

function follows(last: Stretch, { flatOffset, firstBlock, decay }: Stretch): boolean {
  const { length } = last.values;
  const isNext =
    flatOffset === last.flatOffset + length && firstBlock === last.firstBlock + length / BLOCK_ELEMENTS;
  return isNext && decay === last.decay;
}

function join(first: Stretch, second: Stretch): Stretch {
  const over = (a: Float32Array, b: Float32Array) =>
    new Float32Array(a.buffer, a.byteOffset, a.length + b.length);
  return {
    ...first,
    values: over(first.values, second.values),
    firstMoment: over(first.firstMoment, second.firstMoment),
    secondMoment: over(first.secondMoment, second.secondMoment),
  };
}
