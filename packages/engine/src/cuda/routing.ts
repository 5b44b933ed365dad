/** Which experts tokens go to, on a device (`kernels/routeExperts.cu`, `planDispatch.cu`). N tokens, E experts, K of them a token, M = N·K. */

import { invariant } from '@sluice/core';
import type { RoutingOptions } from '../ops/routeExperts.ts';
import type { DeviceArray } from './device.ts';
import { CUDA_SIZES } from './sizes.ts';
import { masterOf } from './weights.ts';

type Floats = DeviceArray<'f32'>;
type Integers = DeviceArray<'i32'>;

/** Of `routeExperts.cu`: tokens of a block, one a warp; tokens of a part of the auxiliary loss. */
const [TOKENS_OF_BLOCK, TOKENS_OF_PART] = [4, 64];

interface RouterOperands {
  /** [N, E] */
  readonly logits: Floats;
  readonly options: RoutingOptions;
}

function tokensOf({ logits, options: { loads } }: RouterOperands): number {
  const tokens = logits.length / loads.length;
  invariant(Number.isInteger(tokens), `${logits.length} logits of ${loads.length} experts`);
  return tokens;
}

const groupsOf = ({ groups = { count: 1, topK: 1 } }: RoutingOptions) => groups;

/** What kernels are told, as `Router` and `Coefficients` of `routeExperts.cu` have it. */
function structsOf(operands: RouterOperands): [Int32Array, Float64Array] {
  const { options } = operands;
  const { topK, normalizeTopK, router, scalingFactor = 1, loads } = options;
  const { count, topK: chosenGroups } = groupsOf(options);
  const struct = new Int32Array(8);
  const flags = [Number(normalizeTopK), Number(router === 'sigmoid')];
  struct.set([tokensOf(operands), loads.length, topK, count, chosenGroups, ...flags]);
  new Float32Array(struct.buffer)[7] = scalingFactor;
  const { balanceCoefficient, zCoefficient, totalTokens } = options;
  return [struct, Float64Array.of(balanceCoefficient * loads.length, zCoefficient, totalTokens)];
}

function launchRouter(name: string, operands: RouterOperands, args: (DeviceArray | null)[]): void {
  const { logits, options } = operands;
  const experts = options.loads.length;
  const { mostExperts } = CUDA_SIZES;
  invariant(experts <= mostExperts, `${experts} experts, where there is room for ${mostExperts}`);
  const { count, topK: chosenGroups } = groupsOf(options);
  invariant(experts % count === 0 && chosenGroups <= count, 'groups are equal parts of the experts');
  invariant(options.topK <= (experts / count) * chosenGroups, 'more experts are to be chosen than there are');
  const sharedBytes = TOKENS_OF_BLOCK * (3 * experts + count) * 4;
  const grid = [Math.ceil(tokensOf(operands) / TOKENS_OF_BLOCK)] as const;
  const loads = logits.device.upload(options.loads, 'f32');
  const kernel = logits.device.kernel('routeExperts', name);
  kernel.launch(grid, sharedBytes, logits, loads, ...args, ...structsOf(operands));
  logits.device.free(loads);
}

export interface RouterOutputs {
  /** [N, K] */
  readonly weights: Floats;
  readonly indices: Integers;
  /** A single number. */
  readonly auxiliary: Floats;
}

/** What `routeExperts` of the operations gives, from its logits on. */
export function routeTokens(operands: RouterOperands, { weights, indices, auxiliary }: RouterOutputs): void {
  const { logits, options } = operands;
  const { device } = logits;
  const tokens = tokensOf(operands);
  const ofTokens = device.allocate(tokens, 'f64');
  const parts = device.allocate(Math.ceil(tokens / TOKENS_OF_PART), 'f64');
  const bias = options.bias ? masterOf(options.bias) : null;
  if (tokens > 0) launchRouter('routeExperts', operands, [bias, weights, indices, ofTokens]);
  const [, coefficients] = structsOf(operands);
  const sum = device.kernel('routeExperts', 'sumAuxiliary');
  sum.launch([1], 0, ofTokens, parts, auxiliary, tokens, coefficients);
  for (const array of [ofTokens, parts]) device.free(array);
}

export interface RouterGradients {
  readonly indices: Integers;
  /** [N, K] */
  readonly dWeights: Floats;
  /** A single number. */
  readonly dAuxiliary: Floats;
}

/** @param dLogits [N, E], may not be the logits */
export function routeTokensBackward(
  operands: RouterOperands,
  { indices, dWeights, dAuxiliary }: RouterGradients,
  dLogits: Floats,
): void {
  if (tokensOf(operands) === 0) return;
  launchRouter('routeExpertsBackward', operands, [indices, dWeights, dAuxiliary, dLogits]);
}

/** Of `planDispatch.cu`. */
const SLOTS_OF_PART = 512;

export interface Plan {
  /** [M]: the slot of each row, sorted by expert, then slot. */
  readonly order: Integers;
  /** [M]: the row of each slot. */
  readonly position: Integers;
  /** [E]: rows of each expert. */
  readonly counts: Integers;
}

/** @param indices [M], the expert of each slot, each below E */
export function planRows(indices: Integers, { order, position, counts }: Plan): void {
  const { device, length } = indices;
  const [experts, parts] = [counts.length, Math.ceil(length / SLOTS_OF_PART)];
  const kernel = (name: string) => device.kernel('planDispatch', name);
  const ofParts = device.allocate(experts * parts, 'i32');
  const sharedBytes = SLOTS_OF_PART * 4;
  if (parts > 0) kernel('countSlots').launch([parts], sharedBytes, indices, ofParts, length, experts);
  kernel('placeParts').launch([1], experts * 4, ofParts, counts, parts, experts);
  if (parts > 0)
    kernel('placeSlots').launch([parts], sharedBytes, indices, ofParts, order, position, length, experts);
  device.free(ofParts);
}
