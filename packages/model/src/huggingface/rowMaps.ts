/**
 * Where the rows of a query projection with its gate, and the channels of a head, lie in files. Sluice keeps the queries of
 * a key-value head, and then their gates; others keep queries and gates head by head, or as two tensors. Of a rotary
 * embedding of R < D channels, Sluice turns the first R/2 pairs of channels i and i + D/2; files have these as the channels i and
 * i + R/2 of the first R. All of that is an order of rows, and computes the same.
 *
 * H query heads, K key-value heads, G = H/K; D channels of a head.
 */

import { interleavedGate } from '../gates/gate.ts';
import type { LayerModel } from '../layers.ts';
import type { TensorRun } from './fileTensor.ts';

/** For each channel of a head as files have it, the same channel of ours. */
export function channelsOfHead({ headDim, rotaryDim = headDim }: LayerModel): number[] {
  const [half, turning] = [headDim / 2, rotaryDim / 2];
  return Array.from({ length: headDim }, (_, channel) => {
    if (channel < turning) return channel;
    if (channel < rotaryDim) return half + channel - turning;
    const rest = channel - rotaryDim;
    return rest < half - turning ? turning + rest : half + turning + rest - (half - turning);
  });
}

/** Rows of our `q_proj`, head after head. */
export interface QueryRows {
  /** [H][D] */
  readonly queries: readonly (readonly number[])[];
  /** [H][D], or [H][1] of a headwise gate; [H][0] without a gate. */
  readonly gates: readonly (readonly number[])[];
}

export function queryRows(model: LayerModel): QueryRows {
  const { numAttentionHeads, numKeyValueHeads, headDim } = model;
  const group = numAttentionHeads / numKeyValueHeads;
  const gateRows = { none: 0, elementwise: headDim, headwise: 1 }[interleavedGate(model)];
  const channels = channelsOfHead(model);
  const heads = Array.from({ length: numAttentionHeads }, (_, head) => {
    const begin = Math.floor(head / group) * group * (headDim + gateRows);
    const within = head % group;
    return { queries: begin + within * headDim, gates: begin + group * headDim + within * gateRows };
  });
  return {
    queries: heads.map(({ queries }) => channels.map((channel) => queries + channel)),
    gates: heads.map(({ gates }) => Array.from({ length: gateRows }, (_, row) => gates + row)),
  };
}

/** Rows of a matrix [heads·D, columns] whose heads are cut into channels as those of queries and keys are. */
export function headRowsOf(model: LayerModel, heads: number): number[] {
  const channels = channelsOfHead(model);
  return Array.from({ length: heads }, (_, head) =>
    channels.map((channel) => head * model.headDim + channel),
  ).flat();
}

/** Rows of a tensor one after the other, neighbours taken together. @param columns elements of a row */
export function runsOfRows(name: string, rows: readonly number[], columns: number): TensorRun[] {
  const runs: { name: string; begin: number; size: number }[] = [];
  for (const row of rows) {
    const last = runs.at(-1);
    if (last && last.begin + last.size === row * columns) last.size += columns;
    else runs.push({ name, begin: row * columns, size: columns });
  }
  return runs;
}
