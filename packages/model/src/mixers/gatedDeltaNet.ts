/**
 * Gated DeltaNet (Yang et al., arXiv 2412.06464), as in Qwen3-Next, Qwen3.5 and Olmo-Hybrid: queries, keys and values pass a short
 * convolution with a SiLU, the gated delta rule, an RMS norm of each head, and a gate of SiLUs. The names of tensors are those of
 * Qwen3.5.
 *
 * Shapes: N tokens, C hidden; K key heads of Dk channels, V value heads of Dv; W = 2·K·Dk + V·Dv.
 */

import { positiveFloat32 } from '@sluice/core';
import {
  deltaRuleScratch,
  forgetUntilGradient,
  gatedDeltaRule,
  gateHeads,
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
  kind: z.literal('gated-delta-net').describe('The gated delta rule behind a short convolution.'),
  keyHeads: z.int().min(1).describe('Heads of queries and keys.'),
  valueHeads: z
    .int()
    .min(1)
    .describe('Heads of values, each with a state of its own; a multiple of keyHeads.'),
  keyDim: z.int().min(1).describe('Channels of a query or key.'),
  valueDim: z.int().min(1).describe('Channels of a value.'),
  taps: z.int().min(2).default(4).describe('Tokens that the convolution sees, its own among them.'),
  allowNegativeEigenvalues: z
    .boolean()
    .optional()
    .describe(
      'Whether β goes up to 2, so that a direction of the state may change its sign; up to 1 when left out.',
    ),
  normEps: positiveFloat32()
    .optional()
    .describe('Added to the mean square in the norm of heads; rmsNormEps when left out.'),
  initialDecay: z
    .enum(['time-steps', 'fast'])
    .default('time-steps')
    .describe(
      'How fast states decay at first. time-steps: in a thousand tokens to less than one, by head (Mamba-2, Gated DeltaNet); fast: mostly within a token, as the classes of Qwen in transformers begin.',
    ),
});

export type GatedDeltaNetConfig = z.infer<typeof Settings>;

/** Columns of queries, keys and values. */
const widthOf = ({ keyHeads, valueHeads, keyDim, valueDim }: GatedDeltaNetConfig) =>
  2 * keyHeads * keyDim + valueHeads * valueDim;

const NAMES = {
  qkv: 'linear_attn.in_proj_qkv.weight',
  gate: 'linear_attn.in_proj_z.weight',
  betaAndDecay: 'linear_attn.in_proj_ba.weight',
  beta: 'linear_attn.in_proj_b.weight',
  decay: 'linear_attn.in_proj_a.weight',
  convolution: 'linear_attn.conv1d.weight',
  aLog: 'linear_attn.A_log',
  dtBias: 'linear_attn.dt_bias',
  norm: 'linear_attn.norm.weight',
  output: 'linear_attn.out_proj.weight',
};

export const gatedDeltaNet: Mixer<GatedDeltaNetConfig> = {
  schema: Settings,
  refusal: ({ keyHeads, valueHeads }) =>
    valueHeads % keyHeads === 0 ? undefined : `${valueHeads} value heads for ${keyHeads} key heads`,
  parameters(settings, { hiddenSize }) {
    const { valueHeads, valueDim, taps, initialDecay } = settings;
    const width = widthOf(settings);
    const values = valueHeads * valueDim;
    const ofHead = { decay: false, group: 'attention' } as const;
    const initial = INITIAL_DECAYS[initialDecay];
    return [
      matrix(NAMES.qkv, width, hiddenSize, 'attention'),
      matrix(NAMES.gate, values, hiddenSize, 'gate'),
      {
        ...matrix(NAMES.betaAndDecay, 2 * valueHeads, hiddenSize, 'attention'),
        tensors: [NAMES.beta, NAMES.decay].map((name) => ({ name, shape: [valueHeads, hiddenSize] })),
      },
      convolutionWeights(NAMES.convolution, width, taps),
      whole(NAMES.aLog, [valueHeads], { ...ofHead, initial: initial.aLog }),
      whole(NAMES.dtBias, [valueHeads], { ...ofHead, initial: initial.dtBias }),
      whole(NAMES.norm, [valueDim], { initial: 1, decay: false, group: 'norms' }),
      matrix(NAMES.output, hiddenSize, values, 'attention'),
    ];
  },
  mix(settings, x_NC, pass, { sizes, parameter }) {
    const { valueHeads, valueDim, allowNegativeEigenvalues = false, normEps } = settings;
    const { layer, rows, state, observer } = pass;
    const projected_NW = linear(x_NC, parameter(NAMES.qkv));
    const heads_NW = convolve(projected_NW, parameter(NAMES.convolution), 'silu', pass);
    const logits_N2V = linear(x_NC, parameter(NAMES.betaAndDecay));
    const decay = { aLog: parameter(NAMES.aLog), dtBias: parameter(NAMES.dtBias) };
    const o_NY = gatedDeltaRule(
      heads_NW,
      logits_N2V,
      decay,
      { ...rows, ...settings, allowNegativeEigenvalues },
      state?.get('state'),
    );
    forgetUntilGradient(heads_NW);
    if (observer?.recurrence) {
      const operands = {
        ...{ aLog: decay.aLog.hostValues, dtBias: decay.dtBias.hostValues },
        mostBeta: allowNegativeEigenvalues ? 2 : 1,
      };
      whenRead(tf.split(logits_N2V, 2, 1), (beta, decay) =>
        observer.recurrence!(layer, { beta: beta!, decay: decay!, ...operands }),
      );
    }
    const normed_NY = normOfHeads(o_NY, parameter(NAMES.norm), normEps ?? sizes.rmsNormEps);
    const gated_NY = gateHeads(normed_NY, linear(x_NC, parameter(NAMES.gate)), {
      ...{ heads: valueHeads, channels: valueDim, activation: 'silu', isShared: false },
    });
    forgetUntilGradient(normed_NY);
    return linear(gated_NY, parameter(NAMES.output));
  },
  states: (settings) => ({
    inputs: (settings.taps - 1) * widthOf(settings),
    state: settings.valueHeads * settings.keyDim * settings.valueDim,
  }),
  widths(settings) {
    const { valueHeads, valueDim } = settings;
    const [width, values] = [widthOf(settings), valueHeads * valueDim];
    return {
      // What is projected, the logits, the rule's output, the gate's logits, and what comes out of the gate.
      kept: [width, 2 * valueHeads, values, values, values],
      // Queries, keys and values once more, in whose place their gradients come, and those of what they are made of.
      gradients: [width, width, values],
    };
  },
  rulePass({ keyHeads, valueHeads, keyDim, valueDim }, { hiddenSize }) {
    const rule = { heads: valueHeads, keyDim, valueDim, decays: 1 };
    const keys = { projectedKeys: keyHeads * keyDim, isRepeated: valueHeads > keyHeads };
    return {
      // Logits of β and decays, and what they go through.
      widths: [...widthsOfRule({ ...rule, ...keys }, hiddenSize), 2 * valueHeads, { words: 14 * valueHeads }],
      rule,
    };
  },
  scratch: ({ keyHeads, valueHeads, keyDim, valueDim }, sequenceLength) =>
    deltaRuleScratch({ valueHeads: valueHeads / keyHeads, keyDim, valueDim }, sequenceLength, false),
  // Three products of a state with a vector, and two for each in the backward pass.
  operations: ({ valueHeads, keyDim, valueDim }) => 18 * valueHeads * keyDim * valueDim,
  scaled: (settings, { heads, headDim }) => {
    const keyHeads = heads(settings.keyHeads);
    return {
      ...settings,
      keyHeads,
      valueHeads: (settings.valueHeads / settings.keyHeads) * keyHeads,
      keyDim: headDim(settings.keyDim),
      valueDim: headDim(settings.valueDim),
    };
  },
};
