/**
 * Kimi Delta Attention (Kimi Linear, arXiv 2510.26692 §3): as Gated DeltaNet, but each channel of a key decays for itself, the decays and
 * the gate come through a few channels, and the gate is a sigmoid.
 *
 * Shapes: N tokens, C hidden; H heads of Dk channels of a key and Dv of a value; W = H·(2·Dk + Dv).
 */

import { positiveFloat32 } from '@sluice/core';
import {
  deltaRuleScratch,
  forgetUntilGradient,
  gateHeads,
  kimiDeltaRule,
  linear,
  whenRead,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import { z } from 'zod';
import type { Mixer } from './mixer.ts';
import {
  convolutionWeights,
  convolve,
  INITIAL_DECAYS,
  matrix,
  normOfHeads,
  whole,
  widthsOfRule,
} from './parts.ts';

const Settings = z.strictObject({
  kind: z
    .literal('kimi-delta-attention')
    .describe('The delta rule with a decay of each channel, behind a short convolution.'),
  heads: z.int().min(1).describe('Heads, each with queries, keys, values and a state of its own.'),
  keyDim: z.int().min(1).describe('Channels of a query or key.'),
  valueDim: z.int().min(1).describe('Channels of a value.'),
  rank: z
    .int()
    .min(1)
    .optional()
    .describe('Channels that the decays come through, and those that the gate does; valueDim when left out.'),
  taps: z.int().min(2).default(4).describe('Tokens that the convolution sees, its own among them.'),
  normEps: positiveFloat32()
    .optional()
    .describe('Added to the mean square in the norm of heads; rmsNormEps when left out.'),
});

export type KimiDeltaAttentionConfig = z.infer<typeof Settings>;

const widthOf = ({ heads, keyDim, valueDim }: KimiDeltaAttentionConfig) => heads * (2 * keyDim + valueDim);

const NAMES = {
  qkv: 'linear_attn.in_proj_qkv.weight',
  down: 'linear_attn.down_proj.weight',
  decayDown: 'linear_attn.f_a_proj.weight',
  gateDown: 'linear_attn.g_a_proj.weight',
  beta: 'linear_attn.b_proj.weight',
  decayUp: 'linear_attn.f_b_proj.weight',
  gateUp: 'linear_attn.g_b_proj.weight',
  convolution: 'linear_attn.conv1d.weight',
  aLog: 'linear_attn.A_log',
  dtBias: 'linear_attn.dt_bias',
  norm: 'linear_attn.norm.weight',
  output: 'linear_attn.out_proj.weight',
};

export const kimiDeltaAttention: Mixer<KimiDeltaAttentionConfig> = {
  schema: Settings,
  parameters(settings, { hiddenSize }) {
    const { heads, keyDim, valueDim, taps, rank = valueDim } = settings;
    const [width, keys, values] = [widthOf(settings), heads * keyDim, heads * valueDim];
    const ofHead = { decay: false, group: 'attention' } as const;
    const initial = INITIAL_DECAYS['time-steps'];
    return [
      matrix(NAMES.qkv, width, hiddenSize, 'attention'),
      {
        ...matrix(NAMES.down, rank + heads, hiddenSize, 'attention'),
        tensors: [
          { name: NAMES.decayDown, shape: [rank, hiddenSize] },
          { name: NAMES.beta, shape: [heads, hiddenSize] },
        ],
      },
      matrix(NAMES.decayUp, keys, rank, 'attention'),
      matrix(NAMES.gateDown, rank, hiddenSize, 'gate'),
      matrix(NAMES.gateUp, values, rank, 'gate'),
      convolutionWeights(NAMES.convolution, width, taps),
      whole(NAMES.aLog, [heads], { ...ofHead, initial: initial.aLog }),
      whole(NAMES.dtBias, [keys], { ...ofHead, initial: initial.dtBias }),
      whole(NAMES.norm, [valueDim], { initial: 1, decay: false, group: 'norms' }),
      matrix(NAMES.output, hiddenSize, values, 'attention'),
    ];
  },
  mix(settings, x_NC, pass, { sizes, parameter }) {
    const { heads, valueDim, normEps, rank = valueDim } = settings;
    const { layer, rows, state, observer } = pass;
    const projected_NW = linear(x_NC, parameter(NAMES.qkv));
    const heads_NW = convolve(projected_NW, parameter(NAMES.convolution), 'silu', pass);
    const [down_NR, beta_NH] = tf.split(linear(x_NC, parameter(NAMES.down)), [rank, heads], 1) as [
      tf.Tensor2D,
      tf.Tensor2D,
    ];
    const decay_ND = linear(down_NR, parameter(NAMES.decayUp));
    const [aLog, dtBias] = [parameter(NAMES.aLog), parameter(NAMES.dtBias)];
    const inputs = { heads: heads_NW, beta: beta_NH, decay: decay_ND };
    const o_NY = kimiDeltaRule(inputs, { aLog, dtBias }, { ...rows, ...settings }, state?.get('state'));
    forgetUntilGradient(heads_NW);
    if (observer?.recurrence) {
      const operands = { aLog: aLog.hostValues, dtBias: dtBias.hostValues, mostBeta: 1 };
      whenRead([beta_NH, decay_ND], (beta, decay) =>
        observer.recurrence!(layer, { beta: beta!, decay: decay!, ...operands }),
      );
    }
    const normed_NY = normOfHeads(o_NY, parameter(NAMES.norm), normEps ?? sizes.rmsNormEps);
    const gate_NY = linear(linear(x_NC, parameter(NAMES.gateDown)), parameter(NAMES.gateUp));
    const gated_NY = gateHeads(normed_NY, gate_NY, {
      ...{ heads, channels: valueDim, activation: 'sigmoid', isShared: false },
    });
    forgetUntilGradient(normed_NY);
    return linear(gated_NY, parameter(NAMES.output));
  },
  states: (settings) => ({
    inputs: (settings.taps - 1) * widthOf(settings),
    state: settings.heads * settings.keyDim * settings.valueDim,
  }),
  widths(settings) {
    const { heads, keyDim, valueDim, rank = valueDim } = settings;
    const [width, keys, values] = [widthOf(settings), heads * keyDim, heads * valueDim];
    return {
      // What is projected, the first projections of the decays and β together and apart, the decays, the rule's output, both
      // projections of the gate, and what comes out of it.
      kept: [width, rank + heads, rank, heads, keys, values, rank, values, values],
      // Queries, keys and values once more, in whose place their gradients come, and those of what they are made of.
      gradients: [width, width, values],
    };
  },
  rulePass({ heads, keyDim, valueDim, rank = valueDim }, { hiddenSize }) {
    const rule = { heads, keyDim, valueDim, decays: keyDim };
    const keys = heads * keyDim;
    return {
      widths: [
        ...widthsOfRule({ ...rule, projectedKeys: keys, isRepeated: false }, hiddenSize),
        // The decays’ first projection and their logits; these in single precision, and what they go through; and the same of β.
        ...[rank, keys, { words: 5 * keys }, heads, { words: 3 * heads }],
      ],
      rule,
    };
  },
  scratch: ({ keyDim, valueDim }, sequenceLength) =>
    deltaRuleScratch({ valueHeads: 1, keyDim, valueDim }, sequenceLength, true),
  // Three products of a state with a vector, and two for each in the backward pass.
  operations: ({ heads, keyDim, valueDim }) => 18 * heads * keyDim * valueDim,
  scaled: (settings, by) => ({
    ...settings,
    heads: by.heads(settings.heads),
    keyDim: by.headDim(settings.keyDim),
    valueDim: by.headDim(settings.valueDim),
    ...(settings.rank !== undefined && { rank: by.headDim(settings.rank) }),
  }),
};
