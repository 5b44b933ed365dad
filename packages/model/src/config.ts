import { z } from 'zod';

/**
 * The gate on the attention output (paper §2.2, eq. 5): Y' = Y ⊙ σ(X W). Its rows live in `q_proj`, interleaved per
 * key-value group as in the paper's released checkpoints.
 */
export const GateConfig = z.strictObject({
  granularity: z
    .enum(['none', 'elementwise', 'headwise'])
    .default('elementwise')
    .describe(
      'elementwise: one score for each channel of each head; headwise: one for each head; none: no gate.',
    ),
});

/** A mixture-of-experts feed-forward layer with a softmax router (paper §3.1). */
export const ExpertsConfig = z.strictObject({
  count: z.int().min(2).describe('Number of routed experts in each layer.'),
  topK: z.int().min(1).describe('Experts that each token is sent to.'),
  intermediateSize: z.int().min(1).describe('Hidden width of one expert.'),
  sharedIntermediateSize: z
    .int()
    .min(0)
    .default(0)
    .describe('Hidden width of a shared expert that every token passes through; 0 for none.'),
  normalizeTopK: z
    .boolean()
    .default(true)
    .describe('Whether the weights of the chosen experts are divided by their sum.'),
  balanceCoefficient: z
    .number()
    .min(0)
    .default(0.01)
    .describe('Weight of the load-balancing loss over the global batch.'),
  zCoefficient: z.number().min(0).default(0.001).describe('Weight of the router z-loss.'),
});

export type ExpertsConfig = z.infer<typeof ExpertsConfig>;

/** How the rotary embedding reaches further than it was trained for. The formulas are in `rope.ts`. */
export const RopeScalingConfig = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('linear').describe('Position interpolation: all frequencies divided by the factor.'),
    factor: z.number().min(1).describe('Times the trained length.'),
  }),
  z.strictObject({
    kind: z.literal('yarn').describe('YaRN: only low frequencies divided, and attention sharpened.'),
    factor: z.number().min(1).describe('Times the trained length.'),
    originalLength: z.int().min(1).describe('Sequence length that the model was trained for, in tokens.'),
    betaFast: z
      .number()
      .positive()
      .default(32)
      .describe('Turns within the trained length from which on a frequency is kept.'),
    betaSlow: z
      .number()
      .positive()
      .default(1)
      .describe('Turns within the trained length up to which a frequency is divided by the factor.'),
    attentionFactor: z
      .number()
      .positive()
      .optional()
      .describe('Factor of rotated queries and keys; 0.1·ln(factor) + 1 when left out.'),
  }),
]);

export type RopeScalingConfig = z.infer<typeof RopeScalingConfig>;

/** Architecture of a gated decoder-only transformer: RMS pre-norm, QK norm, rotary embedding, GQA, SwiGLU. */
export const ModelConfig = z
  .strictObject({
    vocabularySize: z.int().min(2).describe('Rows of the embedding; at least the tokenizer’s vocabulary.'),
    hiddenSize: z.int().min(1).describe('Width of the residual stream.'),
    numLayers: z.int().min(1).describe('Number of decoder layers.'),
    numAttentionHeads: z.int().min(1).describe('Query heads.'),
    numKeyValueHeads: z.int().min(1).describe('Key-value heads; divides the query heads.'),
    headDim: z.int().min(2).multipleOf(2).describe('Channels of one head; even.'),
    intermediateSize: z
      .int()
      .min(1)
      .optional()
      .describe('Hidden width of the dense feed-forward layer; leave out with experts.'),
    experts: ExpertsConfig.optional().describe(
      'Mixture of experts in place of the dense feed-forward layer.',
    ),
    gate: GateConfig.prefault({}).describe('Gate on the attention output.'),
    qkNorm: z
      .boolean()
      .default(true)
      .describe('RMS norm of each query and key head before the rotary embedding.'),
    ropeTheta: z.number().positive().default(10000).describe('Base of the rotary embedding.'),
    ropeScaling: RopeScalingConfig.optional().describe(
      'Stretches the rotary embedding over longer sequences; leave out for none.',
    ),
    rmsNormEps: z.number().positive().default(1e-6).describe('Added to the mean square in RMS norms.'),
    tieWordEmbeddings: z.boolean().default(false).describe('Whether the output projection is the embedding.'),
    initializerRange: z
      .number()
      .positive()
      .default(0.02)
      .describe('Standard deviation of the initial weights.'),
  })
  .superRefine((model, context) => {
    if (model.numAttentionHeads % model.numKeyValueHeads !== 0) {
      context.addIssue({
        code: 'custom',
        path: ['numKeyValueHeads'],
        message: `${model.numKeyValueHeads} key-value heads do not divide ${model.numAttentionHeads} query heads`,
      });
    }
    if ((model.intermediateSize === undefined) === (model.experts === undefined)) {
      context.addIssue({
        code: 'custom',
        path: ['intermediateSize'],
        message: 'give either intermediateSize (dense) or experts (mixture of experts), and not both',
      });
    }
    if (model.experts && model.experts.topK > model.experts.count) {
      context.addIssue({
        code: 'custom',
        path: ['experts', 'topK'],
        message: `topK ${model.experts.topK} is more than the ${model.experts.count} experts`,
      });
    }
  });

export type ModelConfig = z.infer<typeof ModelConfig>;
