/** What variants of the attention block know of the model around them. */

import type { Parameter } from '@sluice/engine';
import type * as tf from '@tensorflow/tfjs';

/** The part of a model's configuration that shapes a decoder layer. */
export interface BlockSizes {
  readonly hiddenSize: number;
  readonly numLayers: number;
  readonly numAttentionHeads: number;
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  readonly qkNorm: boolean | 'weightless' | 'all-heads';
  readonly rmsNormEps: number;
  readonly zeroCentredNorms?: 'all' | 'layers' | undefined;
}

/** What a tensor is filled with at first: normal numbers of the model's deviation, one number everywhere, or others at random. */
export type InitialValues = 'normal' | number | RandomInitial;

export interface RandomInitial {
  /**
   * - `uniform`: between the two numbers.
   * - `log-of-uniform`: the logarithms of such.
   * - `time-step`: what softplus makes a number of whose logarithm is uniform between those of the two (Mamba-2).
   */
  readonly distribution: 'uniform' | 'log-of-uniform' | 'time-step';
  readonly from: number;
  readonly to: number;
}

/** A tensor that a variant adds to each layer. */
export interface LayerTensor {
  /** Within the layer, e.g. `self_attn.value_gate.weight`. */
  readonly name: string;
  readonly shape: readonly number[];
  /** Normal numbers of the model's deviation, or this number everywhere. */
  readonly initial: 'normal' | number;
  /** Whether weight decay applies. */
  readonly decay: boolean;
  /** Whether a norm multiplies by it. */
  readonly isGain?: boolean;
  /** Whether they are the weights of a linear layer. */
  readonly isLinear?: boolean;
}

/** What a variant computes with, besides the tensor that it changes. */
export interface BlockContext {
  readonly sizes: BlockSizes;
  /** A parameter of the layer by the name of its `LayerTensor`. */
  parameter(name: string): Parameter;
  /** What a norm of the layer multiplies by, by the name of its weights. */
  gain(name: string): Parameter;
  /** Told the scores of each gate by its name, where somebody observes the pass. */
  readonly onGate?: ((name: string, scores: tf.Tensor) => void) | undefined;
}
