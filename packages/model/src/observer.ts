/**
 * Named moments of a forward pass, for whoever measures a model. Nothing is computed for a moment that nobody asked for, and
 * a pass without an observer computes just what it needs.
 *
 * Shapes: N = B·T tokens, C hidden, H heads of D channels, E experts.
 */

import { type QueriesKeys, whenRead } from '@sluice/engine';
import type * as tf from '@tensorflow/tfjs';
import type { GateConfig } from './gates/config.ts';
import { INTERLEAVED_GATE, interleavedGate, namedGates } from './gates/gate.ts';
import type { GatePosition } from './gates/positions.ts';

/**
 * Values are only lent until the method returns. It is called in the order of the pass, as `whenRead` does: in the middle of
 * the pass, or after it where values can only be awaited.
 */
export interface ForwardObserver {
  /** The largest attention logit q·k/√D of each head of each sequence, [B·H]; attention gives it in passing. */
  largestLogits?(layer: number, largest: Float32Array): void;
  /** Queries and keys, normalised and rotated. */
  attention?(layer: number, operands: QueriesKeys): void;
  /** The output of attention before any gate, [N, H·D]; D channels of a value. */
  attentionOutput?(layer: number, y: Float32Array): void;
  /** The same after its gates, as the output projection gets it, [N, H·D]. */
  gatedAttentionOutput?(layer: number, y: Float32Array): void;
  /**
   * The scores of a gate, after its activation and the mean over heads that share them: [rows, heads, scores of a head],
   * where rows is N, or 1 where all tokens have the same.
   */
  gate?(layer: number, name: string, scores: Float32Array, rows: number): void;
  /** How large the weights of a gate are, [heads]: see `gateWeightNorms`. */
  gateNorms?(layer: number, name: string, norms: Float64Array): void;
  /** What the delta rule of a layer is told of its memory. */
  recurrence?(layer: number, operands: RecurrenceOperands): void;
  /** What the feed-forward block adds to the residual stream, [N, C]. */
  feedForwardOutput?(layer: number, y_NC: Float32Array): void;
  /** The router's logits, [N, E], how many tokens each expert got, and what balances the choice, [E], where something does. */
  router?(layer: number, logits_NE: Float32Array, counts: Int32Array, bias: Float32Array | undefined): void;
  /** The residual stream after the layer, [N, C]. */
  layerOutput?(layer: number, x_NC: Float32Array): void;
}

/** Of V heads with a state each. */
export interface RecurrenceOperands {
  /** [N, V]: the logits of β. */
  readonly beta: Float32Array;
  /** [N, V·D]: those of the decays, of which each head has one, or one for each channel of a key. */
  readonly decay: Float32Array;
  /** [V] */
  readonly aLog: Float32Array;
  /** [V·D] */
  readonly dtBias: Float32Array;
  /** The largest β, 1 or 2. */
  readonly mostBeta: number;
}

/** Whether an observer is to see attention's output before its gate, or the gate, so that they cannot be one operation. */
export function observesOutput(observer: ForwardObserver | undefined): boolean {
  return !!(observer?.attentionOutput || observer?.gate);
}

type PlainMoment = 'attentionOutput' | 'gatedAttentionOutput' | 'feedForwardOutput' | 'layerOutput';

/** Hands an observer the values of a tensor if it asked for that moment. */
export function observeValues(
  observer: ForwardObserver | undefined,
  moment: PlainMoment,
  layer: number,
  tensor: tf.Tensor,
): void {
  if (observer?.[moment]) whenRead([tensor], (values) => observer[moment]!(layer, values!));
}

/** A gate as an observer hears of it. */
export interface ObservedGate {
  readonly name: string;
  readonly position: GatePosition;
  readonly form: GateConfig['form'];
}

/** The gates that each layer of a model has. */
export function observedGates(model: Parameters<typeof namedGates>[0]): ObservedGate[] {
  const interleaved: ObservedGate[] =
    interleavedGate(model) === 'none'
      ? []
      : [{ name: INTERLEAVED_GATE, position: 'sdpa', form: 'multiplicative' }];
  return [...interleaved, ...namedGates(model).map(({ name, position, form }) => ({ name, position, form }))];
}
