/**
 * How much the last optimizer step moved the weights. AdamW's moments and the weights after the step tell it exactly, so the
 * step itself need not keep the weights of before; Muon's do not, so that its steps add up the squares themselves.
 */

import { sharedFloat64 } from '@sluice/collectives';
import { BLOCK_ELEMENTS, elementary } from '@sluice/core';
import { type LogicalTensor, type ModelConfig, modelTensors } from '@sluice/model';
import { type BlockLayout, blockLayout } from '../blockLayout.ts';
import type { RunConfig } from '../config.ts';
import type { AdamWPiece, OptimizedPiece } from '../optimizer/pieces.ts';
import type { TakenStep } from '../protocol.ts';
import type { UpdateRatios } from './summary.ts';

type Settings = Pick<RunConfig['optimizer'], 'beta1' | 'beta2' | 'epsilon'>;

/** What the arithmetic needs of a piece. */
export type MeasuredPiece = Pick<AdamWPiece, 'tensor' | 'begin' | 'values' | 'moments' | 'settings'>;

/**
 * Sums of squares of the update and of the weights before it, in double precision. With m̂ and v̂ the moments without their
 * bias, λ the decay and η the rate: d = m̂/(√v̂ + ε), w_{t−1} = (w_t + ηd)/(1 − ηλ), w_t − w_{t−1} = −η(d + λw_{t−1}).
 * @param sums gets two sums for each block of the piece, from `firstBlock` on
 */
function addSquares(
  { values, moments: { firstMoment, secondMoment }, settings }: MeasuredPiece,
  { beta1, beta2, epsilon }: Settings,
  taken: TakenStep,
  sums: Float64Array,
  firstBlock: number,
): void {
  const [unbias1, unbias2] = [beta1, beta2].map((beta) => 1 / (1 - elementary.power(beta, taken.step))) as [
    number,
    number,
  ];
  const learningRate = taken.learningRate * settings.rateScale;
  const lambda = settings.weightDecay;
  const kept = 1 / (1 - learningRate * lambda);
  for (let begin = 0; begin < values.length; begin += BLOCK_ELEMENTS) {
    const end = Math.min(values.length, begin + BLOCK_ELEMENTS);
    let [moved, before] = [0, 0];
    for (let i = begin; i < end; i++) {
      const direction = (firstMoment[i]! * unbias1) / (Math.sqrt(secondMoment[i]! * unbias2) + epsilon);
      const weight = (values[i]! + learningRate * direction) * kept;
      const update = learningRate * (direction + lambda * weight);
      moved += update * update;
      before += weight * weight;
    }
    const place = 2 * (firstBlock + begin / BLOCK_ELEMENTS);
    sums[place] = moved;
    sums[place + 1] = before;
  }
}

/** Measures the update of one step from the pieces of all tensors, in any order and however they are cut between blocks. */
export class UpdateMeter {
  readonly #numLayers: number;
  readonly #tensors: readonly LogicalTensor[];
  readonly #settings: Settings;
  readonly #taken: TakenStep;
  readonly #blocks: BlockLayout;
  /** Of each block of the whole model; zero where no piece was added. Workers add theirs up before they ask for ratios. */
  readonly sums: Float64Array;

  /** @param taken the last step whose update was applied; its number counts all steps that the moments are of */
  constructor(model: ModelConfig, settings: Settings, taken: TakenStep) {
    this.#numLayers = model.numLayers;
    this.#tensors = modelTensors(model);
    this.#settings = settings;
    this.#taken = taken;
    this.#blocks = blockLayout(model);
    this.sums = sharedFloat64(2 * this.#blocks.count);
  }

  add(piece: MeasuredPiece | OptimizedPiece): void {
    const firstBlock = this.#blocks.firstBlocks.get(piece.tensor.name)! + piece.begin / BLOCK_ELEMENTS;
    if ('moved' in piece) this.sums.set(piece.moved, 2 * firstBlock);
    else addSquares(piece, this.#settings, this.#taken, this.sums, firstBlock);
  }

  /** Sums of blocks are added in their canonical order, so the ratios do not depend on who measured which. */
  ratios(): UpdateRatios {
    return {
      overall: this.#ratio(() => true),
      layers: Array.from({ length: this.#numLayers }, (_, layer) =>
        this.#ratio((name) => name.startsWith(`model.layers.${layer}.`)),
      ),
    };
  }

  #ratio(isCounted: (tensor: string) => boolean): number {
    let [moved, before] = [0, 0];
    for (const { name, size, isTrained } of this.#tensors) {
      if (!isTrained || !isCounted(name)) continue;
      const first = this.#blocks.firstBlocks.get(name)!;
      for (let block = first; block < first + Math.ceil(size / BLOCK_ELEMENTS); block++) {
        moved += this.sums[2 * block]!;
        before += this.sums[2 * block + 1]!;
      }
    }
    return Math.sqrt(moved / before);
  }
}
