/**
 * A gate's parameters and its arithmetic.
 *
 * Shapes: N tokens; C hidden; H heads of D channels at the gate's position; S = 1 (headwise) or D (elementwise) scores a
 * head.
 *
 * The gate that the paper recommends (on the output of attention, sigmoid, each head its own) is computed with the
 * projection of queries and inside of attention, and its rows lie interleaved in `q_proj` as in the released checkpoints:
 * see `interleavedGate`. All others have a matrix of their own and are plain `tf.*` operations.
 */

import { gateHeads, linear } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import type { BlockContext, BlockSizes, LayerTensor } from '../block.ts';
import { gateActivation } from './activations/index.ts';
import type { GateConfig } from './config.ts';
import { type GatedTensor, type GatePosition, gatedTensor } from './positions.ts';

/** The name of the gate whose rows lie in `q_proj`. */
export const INTERLEAVED_GATE = 'sdpa_gate';

/** A gate with the name of its tensors. */
export interface NamedGate extends GateConfig {
  /** E.g. `value_gate`. */
  readonly name: string;
}

/** The model's part that tells which gates it has. */
interface Gated {
  readonly gates: readonly GateConfig[];
}

/** What the first gate on the output of attention is, where its rows lie in `q_proj`; `none` where there is no such gate. */
export function interleavedGate({ gates }: Gated): 'none' | 'elementwise' | 'headwise' {
  const first = gates.find(({ position }) => position === 'sdpa');
  return first && isInterleaved(first) ? first.granularity : 'none';
}

function isInterleaved(gate: GateConfig): boolean {
  return (
    gate.sharing === 'head-specific' &&
    gate.form === 'multiplicative' &&
    gate.activation === 'sigmoid' &&
    gate.input === 'query-dependent' &&
    gate.initialWeights === 'normal' &&
    gate.initialLogit === undefined
  );
}

/** The gates that have tensors of their own, in order; the second at one position is called `sdpa_gate_2`, and so on. */
export function namedGates(model: Gated): NamedGate[] {
  const firstAfterAttention = model.gates.find(({ position }) => position === 'sdpa');
  const met = new Map<GatePosition, number>();
  const named = model.gates.map((gate) => {
    const number = (met.get(gate.position) ?? 0) + 1;
    met.set(gate.position, number);
    return { ...gate, name: `${gate.position}_gate${number > 1 ? `_${number}` : ''}` };
  });
  const interleaved = interleavedGate(model) === 'none' ? -1 : model.gates.indexOf(firstAfterAttention!);
  return named.filter((_, index) => index !== interleaved);
}

/** Logits of one token. */
function gateRows({ granularity }: GateConfig, { heads, channels }: GatedTensor): number {
  return granularity === 'headwise' ? heads : heads * channels;
}

const weightName = (gate: NamedGate) => `self_attn.${gate.name}.weight`;
const biasName = (gate: NamedGate) => `self_attn.${gate.name}.bias`;

/** W [H·S, C] and perhaps a bias [H·S]; of an input-independent gate, the logits [H, S]. */
export function gateTensors(gate: NamedGate, sizes: BlockSizes): LayerTensor[] {
  const tensor = gatedTensor(gate.position, sizes);
  const rows = gateRows(gate, tensor);
  if (gate.input === 'input-independent') {
    const shape = [tensor.heads, rows / tensor.heads];
    return [{ name: weightName(gate), shape, initial: gate.initialLogit ?? 0, decay: false }];
  }
  const initial = gate.initialWeights === 'zeros' ? 0 : 'normal';
  const weight: LayerTensor = {
    name: weightName(gate),
    shape: [rows, sizes.hiddenSize],
    initial,
    decay: true,
    isLinear: true,
  };
  if (gate.initialLogit === undefined) return [weight];
  return [weight, { name: biasName(gate), shape: [rows], initial: gate.initialLogit, decay: false }];
}

/** Widths of the tensors of N rows that a gate makes a backward pass keep, besides the shaped projection. */
export function keptGateWidths(gate: NamedGate, sizes: BlockSizes): number[] {
  const tensor = gatedTensor(gate.position, sizes);
  const width = tensor.heads * tensor.channels;
  const rows = gate.input === 'input-independent' ? 0 : gateRows(gate, tensor);
  const biased = gate.initialLogit === undefined ? 0 : rows;
  const isSeparate = !fusedActivation(gate);
  const shared = isSeparate && gate.sharing === 'head-shared' ? rows / tensor.heads : 0;
  // The fused operation keeps logits alone.
  const tensors = isSeparate ? gateActivation(gate.activation).keptTensors : 1;
  const scores = [...Array<number>(tensors).fill(rows), biased, shared];
  switch (gate.position) {
    case 'output': // Plain operations keep their result as well, which they reshape.
      return isSeparate ? [...scores, width, width] : [...scores, width];
    default: // After attention its result, what it gates being kept by attention; before, what it gates.
      return [...scores, width];
  }
}

/** Logits [N, H·S], or [1, H·S] for all tokens alike. */
function gateLogits(gate: NamedGate, x_NC: tf.Tensor2D, context: BlockContext): tf.Tensor2D {
  const weight = context.parameter(weightName(gate));
  if (gate.input === 'input-independent') return tf.reshape(weight.onTape(), [1, -1]) as tf.Tensor2D;
  const logits = linear(x_NC, weight);
  if (gate.initialLogit === undefined) return logits;
  return tf.add(logits, context.parameter(biasName(gate)).onTape());
}

/**
 * @param y [N, H·D], what is gated
 * @param x_NC the block's input after its norm
 * @returns [N, H·D]
 */
export function applyGate(
  gate: NamedGate,
  y: tf.Tensor2D,
  x_NC: tf.Tensor2D,
  context: BlockContext,
): tf.Tensor2D {
  const tensor = gatedTensor(gate.position, context.sizes);
  const logits = gateLogits(gate, x_NC, context);
  context.onGate?.(gate.name, gateScores(gate, logits, tensor));
  return applyScores(gate, y, logits, tensor);
}

/** The activation of a gate that one operation computes from its logits on, where there are some for each token. */
function fusedActivation({ activation, form, input }: Pick<GateConfig, 'activation' | 'form' | 'input'>) {
  // Not even where there is one token: its bits would be others than among several.
  if (form === 'additive' || input === 'input-independent') return undefined;
  return activation === 'sigmoid' || activation === 'silu' ? activation : undefined;
}

/** Scores [N, H, S] of logits, or [N, 1, S] where heads share them. */
export function gateScores(
  { activation, sharing }: Pick<GateConfig, 'activation' | 'sharing'>,
  logits: tf.Tensor2D,
  { heads }: GatedTensor,
): tf.Tensor {
  const scores_NHS = tf.reshape(gateActivation(activation).apply(logits), [logits.shape[0], heads, -1]);
  return sharing === 'head-shared' ? tf.mean(scores_NHS, 1, true) : scores_NHS;
}

/** The gate from its logits on. */
export function applyScores(
  gate: Pick<GateConfig, 'activation' | 'form' | 'sharing' | 'input'>,
  y: tf.Tensor2D,
  logits: tf.Tensor2D,
  tensor: GatedTensor,
): tf.Tensor2D {
  const { heads, channels } = tensor;
  const activation = fusedActivation(gate);
  if (activation) {
    return gateHeads(y, logits, { heads, channels, activation, isShared: gate.sharing === 'head-shared' });
  }
  const own = gateScores(gate, logits, tensor);
  const y_NHD = tf.reshape(y, [y.shape[0], heads, channels]);
  const gated_NHD = gate.form === 'additive' ? tf.add(y_NHD, own) : tf.mul(y_NHD, own);
  return tf.reshape(gated_NHD, y.shape);
}
