/**
 * How far an optimizer step moves the weights. The update itself adds up squares, block by block, of how far its elements move and
 * of what they were; blocks are added in their canonical order, so that the ratios do not depend on who updated which.
 */

import { BLOCK_ELEMENTS } from '@sluice/core';
import { type LogicalTensor, type ModelConfig, modelParameters, type ParameterGroup } from '@sluice/model';
import { blockLayout } from './blockLayout.ts';

/** Norms of an optimizer step relative to those of the weights before it, ‖w_t − w_{t−1}‖₂ ÷ ‖w_{t−1}‖₂, weight decay included. */
export interface UpdateRatios {
  readonly overall: number;
  readonly layers: readonly number[];
  /** Of the groups of parameters that the model has. */
  readonly groups: Readonly<Partial<Record<ParameterGroup, number>>>;
}

/** Blocks [first, end) of a trained tensor. */
interface CountedTensor {
  readonly layer: number | undefined;
  readonly group: ParameterGroup;
  readonly first: number;
  readonly end: number;
}

interface Squares {
  readonly moved: number;
  readonly before: number;
}

/** Makes ratios of a model's sums. */
export class UpdateSizes {
  readonly #tensors: readonly CountedTensor[];
  readonly #groups: readonly ParameterGroup[];
  readonly #numLayers: number;

  constructor(model: ModelConfig) {
    const { firstBlocks } = blockLayout(model);
    const counted = (group: ParameterGroup, { name, size }: LogicalTensor): CountedTensor => {
      const first = firstBlocks.get(name)!;
      return { layer: layerOf(name), group, first, end: first + Math.ceil(size / BLOCK_ELEMENTS) };
    };
    this.#tensors = modelParameters(model).flatMap(({ group, tensors }) =>
      tensors.filter(({ isTrained }) => isTrained).map((tensor) => counted(group, tensor)),
    );
    this.#groups = [...new Set(this.#tensors.map(({ group }) => group))];
    this.#numLayers = model.numLayers;
  }

  /** @param sums for each block of the whole model, of how far it moved and of what it was */
  ratios(sums: Float64Array): UpdateRatios {
    const squares = this.#tensors.map(({ first, end }) => squaresOf(sums.subarray(2 * first, 2 * end)));
    const ratio = (isCounted: (tensor: CountedTensor) => boolean) =>
      ratioOf(squares.filter((_, i) => isCounted(this.#tensors[i]!)));
    return {
      overall: ratio(() => true),
      layers: Array.from({ length: this.#numLayers }, (_, layer) =>
        ratio((tensor) => tensor.layer === layer),
      ),
      groups: Object.fromEntries(
        this.#groups.map((group) => [group, ratio((tensor) => tensor.group === group)]),
      ),
    };
  }
}

function layerOf(name: string): number | undefined {
  const layer = /^model\.layers\.(\d+)\./.exec(name)?.[1];
  return layer === undefined ? undefined : Number(layer);
}

function squaresOf(sums: Float64Array): Squares {
  let [moved, before] = [0, 0];
  for (let i = 0; i < sums.length; i += 2) {
    moved += sums[i]!;
    before += sums[i + 1]!;
  }
  return { moved, before };
}

/** NaN where it is not finite, as of weights that are all 0. */
function ratioOf(squares: readonly Squares[]): number {
  const total = (of: (one: Squares) => number) => squares.reduce((sum, one) => sum + of(one), 0);
  const ratio = Math.sqrt(total(({ moved }) => moved) / total(({ before }) => before));
  return Number.isFinite(ratio) ? ratio : Number.NaN;
}

/** Ratios as JSON has them, which knows no NaN. */
export type SavedRatios = {
  readonly overall: number | null;
  readonly layers: readonly (number | null)[];
  /** Absent in checkpoints of older versions. */
  readonly groups?: Readonly<Partial<Record<ParameterGroup, number | null>>>;
};

export function savedRatios({ overall, layers, groups }: UpdateRatios): SavedRatios {
  const number = (value: number) => (Number.isNaN(value) ? null : value);
  return {
    overall: number(overall),
    layers: layers.map(number),
    groups: Object.fromEntries(Object.entries(groups).map(([group, ratio]) => [group, number(ratio)])),
  };
}

export function revivedRatios({ overall, layers, groups = {} }: SavedRatios): UpdateRatios {
  const number = (value: number | null | undefined) => value ?? Number.NaN;
  return {
    overall: number(overall),
    layers: layers.map(number),
    groups: Object.fromEntries(Object.entries(groups).map(([group, ratio]) => [group, number(ratio)])),
  };
}
