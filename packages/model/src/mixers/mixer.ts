/**
 * What mixes the tokens of a layer in place of attention. Each is one file that says how it is configured, which parameters it
 * has, and what it computes; what it knows of the tokens before, it keeps in a state of fixed size.
 *
 * Shapes: N tokens, C hidden.
 */

import type { RecurrenceLayout, RowLayout } from '@sluice/engine';
import type * as tf from '@tensorflow/tfjs';
import type { z } from 'zod';
import type { BlockContext, BlockSizes, InitialValues } from '../block.ts';
import type { ForwardObserver } from '../observer.ts';
import type { Width } from '../widths.ts';

/** A parameter of a mixer: one array, and the tensors that lie in it one after the other. */
export interface MixerParameter {
  /** Within the layer. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly tensors: readonly { readonly name: string; readonly shape: readonly number[] }[];
  readonly initial: InitialValues;
  /** Whether weight decay applies. */
  readonly decay: boolean;
  readonly group: 'attention' | 'gate' | 'norms';
  /** Whether they are the weights of a linear layer. */
  readonly isLinear?: boolean;
}

/** The pass that a layer is part of. */
export interface MixerPass {
  readonly layer: number;
  readonly rows: RowLayout;
  /** What the layer keeps between passes over one sequence: its arrays by the names of `states`, zeros at first. */
  readonly state?: ReadonlyMap<string, Float32Array> | undefined;
  readonly observer?: ForwardObserver | undefined;
}

/** Widths of tensors of N rows. */
export interface MixerWidths {
  /** Kept for the backward pass, besides what goes into the layer and comes out of it. */
  readonly kept: readonly number[];
  /** There besides at the moment when most is: what is computed once more, and gradients. */
  readonly gradients: readonly number[];
}

/** A delta rule on a device, whose gradient needs most of all that its layer computes. */
export interface RulePass {
  /** What is there then of the layer, input and gradient included. */
  readonly widths: readonly Width[];
  /** What decides what its kernels work in. */
  readonly rule: Pick<RecurrenceLayout, 'heads' | 'keyDim' | 'valueDim' | 'decays'>;
}

/** What sizes shrink by: see `scale.ts`. */
export interface MixerScale {
  readonly heads: (count: number) => number;
  readonly headDim: (channels: number) => number;
}

export interface Mixer<Settings extends { readonly kind: string }> {
  /** Strict object; `kind` is its literal name. */
  readonly schema: z.ZodType<Settings>;
  /** Why it cannot be had; undefined when it can. */
  readonly refusal?: (settings: Settings) => string | undefined;
  readonly parameters: (settings: Settings, sizes: BlockSizes) => readonly MixerParameter[];
  /** [N, C] of [N, C], the layer's input after its norm. */
  readonly mix: (
    settings: Settings,
    x_NC: tf.Tensor2D,
    pass: MixerPass,
    context: BlockContext,
  ) => tf.Tensor2D;
  /** Elements of the arrays of a sequence's state, by their names. */
  readonly states: (settings: Settings, sizes: BlockSizes) => Readonly<Record<string, number>>;
  readonly widths: (settings: Settings, sizes: BlockSizes) => MixerWidths;
  /** The same of a device, in place of `gradients`, where the mixer is a delta rule. */
  readonly rulePass?: (settings: Settings, sizes: BlockSizes) => RulePass;
  /** Most numbers that a thread of the native backend works in, for a sequence of so many tokens; few when left out. */
  readonly scratch?: (settings: Settings, sequenceLength: number) => number;
  /** Floating-point operations of forward and backward for one token, beside 6 for each parameter. */
  readonly operations?: (settings: Settings) => number;
  readonly scaled?: (settings: Settings, by: MixerScale) => Settings;
}
