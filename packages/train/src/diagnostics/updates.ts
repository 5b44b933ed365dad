/**
 * How much the last optimizer step moved the weights. AdamW's moments and the weights after the step tell it exactly, so the
 * step itself need not keep the weights of before.
 */

import { sharedFloat64 } from '@sluice/collectives';
import { BLOCK_ELEMENTS } from '@sluice/core';
import { type ModelConfig, modelTensors } from '@sluice/model';
import { makeWhole } from '../agreement.ts';
import { blockLayout } from '../blockLayout.ts';
import type { OptimizerConfig } from '../config.ts';
import type { OptimizedPiece } from '../optimizer.ts';
import type { Topology } from '../topology.ts';
import type { UpdateRatios } from './summary.ts';

/** The step whose update is measured: the last one, and applied. */
export interface TakenStep {
  /** 1 for the first. */
  readonly step: number;
  readonly learningRate: number;
}

type Settings = Pick<ReturnType<typeof OptimizerConfig.parse>, 'beta1' | 'beta2' | 'epsilon' | 'weightDecay'>;

/**
 * Sums of squares of the update and of the weights before it, in double precision. With m̂ and v̂ the moments without their
 * bias, λ the decay and η the rate: d = m̂/(√v̂ + ε), w_{t−1} = (w_t + ηd)/(1 − ηλ), w_t − w_{t−1} = −η(d + λw_{t−1}).
 * @param sums gets two sums for each block of the piece, from `firstBlock` on
 */
function addSquares(
  { values, firstMoment, secondMoment, decay }: OptimizedPiece,
  { beta1, beta2, epsilon, weightDecay }: Settings,
  { step, learningRate }: TakenStep,
  sums: Float64Array,
  firstBlock: number,
): void {
  const [unbias1, unbias2] = [1 / (1 - beta1 ** step), 1 / (1 - beta2 ** step)];
  const lambda = decay ? weightDecay : 0;
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

/** All workers call it together and get the same numbers. */
export function measureUpdates(
  model: ModelConfig,
  settings: Settings,
  taken: TakenStep,
  pieces: Iterable<OptimizedPiece>,
  topology: Topology,
): UpdateRatios {
  const { firstBlocks, count } = blockLayout(model);
  const sums = sharedFloat64(2 * count);
  for (const piece of pieces) {
    const firstBlock = firstBlocks.get(piece.tensor.name)! + piece.begin / BLOCK_ELEMENTS;
    addSquares(piece, settings, taken, sums, firstBlock);
  }
  makeWhole(sums, topology);

  const ratio = (isCounted: (name: string) => boolean) => {
    let [moved, before] = [0, 0];
    for (const { name, size } of modelTensors(model)) {
      if (!isCounted(name)) continue;
      const first = firstBlocks.get(name)!;
      for (let block = first; block < first + Math.ceil(size / BLOCK_ELEMENTS); block++) {
        moved += sums[2 * block]!;
        before += sums[2 * block + 1]!;
      }
    }
    return Math.sqrt(moved / before);
  };
  return {
    overall: ratio(() => true),
    layers: Array.from({ length: model.numLayers }, (_, layer) =>
      ratio((name) => name.startsWith(`model.layers.${layer}.`)),
    ),
  };
}
