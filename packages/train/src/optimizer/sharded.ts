/**
 * The optimizer of a flat space, sharded: each worker keeps the moments of its own slices, updates them, and sends the new
 * values to the workers that hold the same parameters (ZeRO stage 1).
 */

import type { Pending } from '@sluice/collectives';
import { BLOCK_ELEMENTS } from '@sluice/core';
import { type Floats, flatMemory } from '@sluice/engine';
import type { BlockLayout } from '../blockLayout.ts';
import type { FlatSpace } from '../flatSpace.ts';
import { AdamWUpdates } from './adamW.ts';
import type { OptimizerConfig } from './config.ts';
import { MuonUpdates } from './muon.ts';
import { isMuonPiece, joinPieces, type OptimizedPiece } from './pieces.ts';
import { muonMatrix, tensorSettings, type UpdateRequest } from './settings.ts';

/** Pieces that follow each other. */
type MeasuredStretch = Pick<OptimizedPiece, 'values' | 'isApart' | 'flatOffset' | 'firstBlock'>;

export class ShardedOptimizer {
  readonly #space: FlatSpace;
  readonly pieces: readonly OptimizedPiece[];
  readonly #measured: readonly MeasuredStretch[];
  readonly #adamW: AdamWUpdates;
  readonly #muon: MuonUpdates | undefined;
  /** Of the last update, which may still be under way. */
  readonly #gathers: Pending[] = [];

  /**
   * @param space whose matrices are cut as the configuration wants it; see `wholeMatrices`
   * @param moved gets with each update, for each block of the whole model that this worker owns, the squares of how far its
   *   elements moved and of what they were
   */
  constructor(config: OptimizerConfig, space: FlatSpace, blocks: BlockLayout, moved: Float64Array) {
    this.#space = space;
    this.pieces = optimizedPieces(config, space, blocks, moved);
    this.#measured = measuredStretches(this.pieces);
    this.#adamW = new AdamWUpdates(
      config,
      this.pieces.filter((piece) => !isMuonPiece(piece)),
    );
    this.#muon = config.muon && new MuonUpdates(config.muon, this.pieces.filter(isMuonPiece));
  }

  /** Sums of squares of the gradient's blocks that this worker owns, each at the block's place in the whole model. */
  measure(gradients: Floats, squares: Float64Array): void {
    const measured = this.#measured.map(({ values, flatOffset }) =>
      gradients.subarray(flatOffset, flatOffset + values.length),
    );
    const norms = flatMemory().squaredNorms(measured);
    for (const [i, { firstBlock }] of this.#measured.entries()) squares.set(norms[i]!, firstBlock);
  }

  /** Updates the owned pieces in place. */
  update(gradients: Floats, request: UpdateRequest): void {
    this.settle();
    this.#adamW.update(gradients, request);
    this.#muon?.update(gradients, request);
  }

  /**
   * Gives every worker of the group the values that the others have updated, in the order in which forward passes need them. They
   * come while the next one begins: it waits for a layer's when it comes to that layer (`Parameter.expect`).
   * @param stages whose values have changed; all of them when left out
   */
  share(stages?: ReadonlySet<number>): void {
    for (const stage of this.#space.stages.toReversed()) {
      if (stages?.has(stage) === false) continue;
      for (const memory of this.#space.memories) {
        const within = memory.parameters.filter(({ spec }) => spec.stage === stage);
        if (within.length === 0) continue;
        const gather = memory.share(stage);
        if (gather) this.#gathers.push(gather);
        for (const { parameter } of within) {
          if (gather) parameter.expect(() => gather.wait());
          else parameter.refresh();
        }
      }
    }
  }

  /** Waits until all that was shared has come, and the owned pieces may be changed. */
  settle(): void {
    for (const gather of this.#gathers) gather.wait();
    this.#gathers.length = 0;
  }
}

/** The owned pieces with their moments, which are zero and lie one after the other. */
function optimizedPieces(
  config: OptimizerConfig,
  space: FlatSpace,
  { firstBlocks }: BlockLayout,
  moved: Float64Array,
): OptimizedPiece[] {
  const described = space.ownedPieces.map((piece) => ({
    ...piece,
    length: piece.end - piece.begin,
    matrix: muonMatrix(config, piece.spec, piece.tensor),
  }));
  const lengthOf = (isMatrix: boolean) =>
    described.reduce((sum, { length, matrix }) => sum + (isMatrix === !!matrix ? length : 0), 0);
  const takeMomentum = inTurn(flatMemory().make(lengthOf(true)));
  const takeFirst = inTurn(flatMemory().make(lengthOf(false)));
  const takeSecond = inTurn(flatMemory().make(lengthOf(false)));
  return described.map(({ length, matrix, ...piece }): OptimizedPiece => {
    const firstBlock = firstBlocks.get(piece.tensor.name)! + piece.begin / BLOCK_ELEMENTS;
    const whole = {
      ...piece,
      settings: tensorSettings(config, piece.spec),
      firstBlock,
      moved: moved.subarray(2 * firstBlock, 2 * (firstBlock + Math.ceil(length / BLOCK_ELEMENTS))),
    };
    if (matrix) return { ...whole, matrix, moments: { momentum: takeMomentum(length) } };
    return { ...whole, moments: { firstMoment: takeFirst(length), secondMoment: takeSecond(length) } };
  });
}

/** Hands out ranges of memory, one after the other. */
function inTurn(memory: Floats): (length: number) => Floats {
  let offset = 0;
  return (length) => {
    offset += length;
    return memory.subarray(offset - length, offset);
  };
}

function measuredStretches(pieces: readonly OptimizedPiece[]): MeasuredStretch[] {
  return joinPieces<MeasuredStretch>(
    pieces,
    () => true,
    (last, next) => ({ ...last, values: flatMemory().join(last.values, next.values) }),
  );
}
