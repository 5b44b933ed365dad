/** What the optimizer does with each tensor: which arithmetic updates it, and with which settings. */

import type { LogicalTensor, ParameterGroup, ParameterSpec } from '@sluice/model';
import type { WholeCost } from '../flatSpace.ts';
import type { GradientScales } from './clipping.ts';
import type { OptimizerConfig } from './config.ts';

/** What all elements of a tensor are updated with. */
export interface TensorSettings {
  readonly group: ParameterGroup;
  /** Factor on the rate of the schedule. */
  readonly rateScale: number;
  readonly weightDecay: number;
}

export function tensorSettings(
  { learningRate, weightDecay, gateWeightDecay, groups }: OptimizerConfig,
  { group, decay }: Pick<ParameterSpec, 'group' | 'decay'>,
): TensorSettings {
  const own = groups?.[group];
  const rateScale =
    own?.learningRate === undefined ? own?.learningRateScale : own.learningRate / learningRate;
  // Norms decay only where it is asked for, biases and the like never.
  const ofGroup = group === 'gate' && gateWeightDecay !== undefined ? gateWeightDecay : own?.weightDecay;
  const groupDecay = decay || group === 'norms' ? ofGroup : undefined;
  return { group, rateScale: rateScale ?? 1, weightDecay: groupDecay ?? (decay ? weightDecay : 0) };
}

/** One step of the optimizer. */
export interface UpdateRequest {
  /** Steps that AdamW's moments are of, this one included; corrects their bias. */
  readonly step: number;
  readonly learningRate: number;
  /** Factors that clip the gradient, 1 for none. */
  readonly gradientScales: GradientScales;
}

/** Rows and columns of a tensor that Muon updates; undefined for all that AdamW does. */
export interface MatrixSize {
  readonly rows: number;
  readonly columns: number;
}

/**
 * Which tensors are matrices in Muon's sense: those that map one hidden vector onto another. Tables of tokens (embedding and
 * head) are none, nor are norms, biases and gates that no input enters; routers are, as in Moonlight (arXiv 2502.16982) and
 * GLM-4.5 (arXiv 2508.06471).
 */
export function muonMatrix(
  { kind }: Pick<OptimizerConfig, 'kind'>,
  { group, decay }: Pick<ParameterSpec, 'group' | 'decay'>,
  { shape }: Pick<LogicalTensor, 'shape'>,
): MatrixSize | undefined {
  const isTable = group === 'embedding' || group === 'head';
  if (kind !== 'muon' || isTable || !decay || shape.length !== 2) return undefined;
  return { rows: shape[0]!, columns: shape[1]! };
}

/** Floating-point operations of matrix products that take as long as the update of one element, which memory bounds. */
const OPERATIONS_PER_ELEMENT = 200;

/** Matrices are updated whole; what that costs is what their products do. */
export function wholeMatrices(config: OptimizerConfig): WholeCost {
  return (spec, tensor) => {
    const size = muonMatrix(config, spec, tensor);
    return size && tensor.size + muonOperations(size, config) / OPERATIONS_PER_ELEMENT;
  };
}

/** Floating-point operations of the iterations for one matrix: with m ≤ n, two products of m²n and one of m³ in each. */
export function muonOperations({ rows, columns }: MatrixSize, { muon }: OptimizerConfig): number {
  const [m, n] = [Math.min(rows, columns), Math.max(rows, columns)];
  return (muon?.iterations ?? 0) * (4 * m * m * n + 2 * m ** 3);
}
