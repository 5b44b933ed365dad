/**
 * SwitchHead (Csordás et al., arXiv 2312.07987; the paper's Table 6): several value, or key and value, projections of each
 * key-value head, of which each token takes the m with the largest sigmoid scores, weighted by these. Of one projection
 * out of one, it is the headwise gate on values.
 *
 * All n are computed for every token and those not chosen are weighted by zero. Shapes: E = n experts.
 */

import { largestOfRow, linear, withoutGradient } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import { z } from 'zod';
import type { BlockSizes } from '../block.ts';
import type { Control, CopiedProjection } from './control.ts';

/** Their matrices are counted out one by one, before anything else could say that they are too many. */
const MOST_EXPERTS = 2 ** 12;

const Settings = z.strictObject({
  kind: z.literal('switch-head').describe('Experts in place of the value, or key and value, projections.'),
  projections: z.enum(['value', 'key-value']).default('value').describe('Which projections have experts.'),
  count: z.int().min(1).max(MOST_EXPERTS).describe('Experts of each projection.'),
  topK: z.int().min(1).describe('Experts that each token takes, for each head.'),
});

type Settings = z.infer<typeof Settings>;

const routerName = (projection: CopiedProjection) => `self_attn.${projection}_router.weight`;

function routed({ projections }: Settings): CopiedProjection[] {
  return projections === 'value' ? ['value'] : ['key', 'value'];
}

export const switchHead: Control<Settings> = {
  schema: Settings,
  refusal: ({ count, topK }) =>
    topK > count ? `topK ${topK} of the switched heads is more than their ${count} experts` : undefined,
  tensors: (settings, { numKeyValueHeads, hiddenSize }) =>
    routed(settings).map((projection) => ({
      name: routerName(projection),
      shape: [numKeyValueHeads * settings.count, hiddenSize],
      initial: 'normal',
      decay: true,
      isLinear: true,
    })),
  idleParameters: (settings, { hiddenSize, numKeyValueHeads, headDim }: BlockSizes) =>
    routed(settings).length * (settings.count - settings.topK) * numKeyValueHeads * headDim * hiddenSize,
  keptWidths: (settings, { numKeyValueHeads, headDim }) =>
    routed(settings).flatMap(() => {
      const all = settings.count * numKeyValueHeads * headDim;
      const scores = settings.count * numKeyValueHeads;
      // The copies, and these by their weights; scores, what chooses among them, and their product, the weights.
      return [all, all, scores, { words: scores }, scores];
    }),
  copies: (settings) => ({
    key: settings.projections === 'key-value' ? settings.count : 1,
    value: settings.count,
  }),
  merge(settings, projection, copies, x_NC, { sizes, parameter }) {
    if (!routed(settings).includes(projection)) return copies;
    const { count, topK } = settings;
    const { numKeyValueHeads, headDim } = sizes;
    const tokens = x_NC.shape[0];
    const scores_NK = tf.sigmoid(linear(x_NC, parameter(routerName(projection))));
    const scores_NEK1 = tf.reshape(chosen(scores_NK, numKeyValueHeads, count, topK), [
      tokens,
      count,
      numKeyValueHeads,
      1,
    ]);
    const copies_NEKD = tf.reshape(copies, [tokens, count, numKeyValueHeads, headDim]);
    return tf.reshape(tf.sum(tf.mul(copies_NEKD, scores_NEK1), 1), [tokens, numKeyValueHeads * headDim]);
  },
};

/** Scores [N, E·K] (expert by expert) with zeros for those beyond the largest m of each head; of equal ones the first are taken. */
function chosen(scores: tf.Tensor2D, heads: number, experts: number, topK: number): tf.Tensor2D {
  if (topK === experts) return scores;
  const mask = withoutGradient(() => {
    const scores_NKE = tf.transpose(tf.reshape(scores, [-1, experts, heads]), [0, 2, 1]);
    const chosen_NKE = tf.reshape(
      largestOfRow(tf.reshape(scores_NKE, [-1, experts]), topK),
      scores_NKE.shape,
    );
    return tf.reshape(tf.transpose(chosen_NKE, [0, 2, 1]), scores.shape);
  });
  return tf.mul(scores, mask);
}
