/**
 * What the paper and others hold against the gate: changes of the decoder layer that are no gates. Each is one file that
 * says how it is configured, which tensors it adds, and what it does at the named points of the layer.
 *
 * Shapes: N tokens, C hidden, H query heads, K key-value heads, D channels of a head.
 */

import type { AttentionLayout, CachedKeysValues } from '@sluice/engine';
import type * as tf from '@tensorflow/tfjs';
import type { z } from 'zod';
import type { BlockContext, BlockSizes, LayerTensor } from '../block.ts';
import type { Width } from '../widths.ts';

/** Queries, keys and values of a pass, normalised and rotated. */
export interface AttentionOperands {
  /** [N, H·D] */
  readonly q: tf.Tensor2D;
  /** [N, K·D] */
  readonly k: tf.Tensor2D;
  /** [N, K·D] */
  readonly v: tf.Tensor2D;
  /** Without a gate. */
  readonly layout: AttentionLayout;
  /** Keys and values of all tokens so far, where there were some before those of the pass. */
  readonly seen: CachedKeysValues | undefined;
}

/** A projection that several copies of a matrix take part in. */
export type CopiedProjection = 'key' | 'value';

/** Numbers x become cap · tanh(x / cap). */
export interface Caps {
  /** Of attention's scores, before their softmax. */
  readonly attention?: number | undefined;
  /** Of the model's logits. */
  readonly logits?: number | undefined;
}

export interface Control<Settings extends { readonly kind: string }> {
  /** Strict object; `kind` is its literal name. */
  readonly schema: z.ZodType<Settings>;
  /** Why it cannot be had; undefined when it can. */
  readonly refusal?: (settings: Settings, sizes: BlockSizes) => string | undefined;
  /** Tensors of each layer. */
  readonly tensors?: (settings: Settings, sizes: BlockSizes) => LayerTensor[];
  /** Parameters of a layer that one token does not pass through. */
  readonly idleParameters?: (settings: Settings, sizes: BlockSizes) => number;
  /**
   * Widths of the tensors of N rows that it makes a backward pass keep, beyond those that a layer without it keeps. What
   * only a few rows have, or what is replaced by tensors of the same width, does not count.
   */
  readonly keptWidths?: (settings: Settings, sizes: BlockSizes) => Width[];
  /** Widths of the tensors of N rows that a device needs for its gradient alone. */
  readonly gradientWidths?: (sizes: BlockSizes) => Width[];
  /** Channels that attention's kernels have of each head beyond its own; none when left out. */
  readonly extraChannels?: (settings: Settings) => number;
  /** Copies of the key and value projections, one after the other in their columns; 1 each when left out. */
  readonly copies?: (settings: Settings) => Readonly<Record<CopiedProjection, number>>;
  /** One projection [N, K·D] of its copies [N, copies·K·D]. */
  readonly merge?: (
    settings: Settings,
    projection: CopiedProjection,
    copies: tf.Tensor2D,
    x_NC: tf.Tensor2D,
    context: BlockContext,
  ) => tf.Tensor2D;
  /** In place of attention: [N, H·D]. */
  readonly attend?: (settings: Settings, operands: AttentionOperands, context: BlockContext) => tf.Tensor2D;
  /** With `attend`: the score of a place for attention to go that is no token, for each head [H]. */
  readonly sinkScores?: (settings: Settings, context: BlockContext) => Float32Array;
  /** Caps of attention's scores and of the model's logits, where there are any. */
  readonly caps?: (settings: Settings) => Caps;
  /** On the output of attention, before any gate and the output projection: [N, H·D]. */
  readonly sdpa?: (settings: Settings, y: tf.Tensor2D, context: BlockContext) => tf.Tensor2D;
  /** On what the attention block, or the feed-forward block, adds to the residual stream: [N, C]. */
  readonly blockOutput?: (
    settings: Settings,
    y_NC: tf.Tensor2D,
    block: 'attention' | 'feedForward',
    context: BlockContext,
  ) => tf.Tensor2D;
}
