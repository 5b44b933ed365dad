import { positiveFloat32 } from '@sluice/core';
import { z } from 'zod';
import { ControlConfig, controlRefusals } from './controls/index.ts';
import { GateConfig, gateRefusal } from './gates/config.ts';
import { LATENT_FIELDS, latentFaults } from './latentAttention.ts';
import { FEED_FORWARD_FIELDS, LayersConfig, layerFaults, NORM_FIELDS } from './layersConfig.ts';
import { MIXER_FIELDS, mixerFaults } from './mixers/index.ts';
import { ROPE_FIELDS } from './ropeConfig.ts';
import { SCALES, scaleModel } from './scale.ts';

export { RopeScalingConfig } from './ropeConfig.ts';

/** Balancing of experts without a loss (Wang et al., arXiv 2408.15664; DeepSeek-V3). */
export const BalanceBiasConfig = z.strictObject({
  rate: z
    .number()
    .min(0)
    .default(0.001)
    .describe(
      'What the bias of an expert gains after each step in which it got less than the mean of the tokens, and loses after one in which it got more; 0 keeps it as it is.',
    ),
});

/** Routing that is limited to groups (DeepSeek-V3, arXiv 2412.19437 §2.1.2). */
export const ExpertGroupsConfig = z.strictObject({
  count: z.int().min(1).describe('Number of groups; divides the experts.'),
  topK: z
    .int()
    .min(1)
    .describe(
      'Groups that each token’s experts are chosen from: those in which the two largest scores, with their biases, have the largest sum.',
    ),
});

/** What is counted out one by one, before anything else could say that it is too much. */
const MOST_EXPERTS = 2 ** 16;
const MOST_LAYERS = 10_000;
const MOST_CHANNELS = 2 ** 16;

/** A mixture-of-experts feed-forward layer (paper §3.1, whose router is a softmax). */
export const ExpertsConfig = z.strictObject({
  count: z.int().min(2).max(MOST_EXPERTS).describe('Number of routed experts in each layer.'),
  topK: z.int().min(1).describe('Experts that each token is sent to.'),
  intermediateSize: z.int().min(1).describe('Hidden width of one expert.'),
  sharedIntermediateSize: z
    .int()
    .min(0)
    .default(0)
    .describe('Hidden width of a shared expert that every token passes through; 0 for none.'),
  sharedGate: z
    .boolean()
    .optional()
    .describe(
      'Whether each token has its own share of the shared expert, by a sigmoid; all of it when left out.',
    ),
  router: z
    .enum(['softmax', 'sigmoid'])
    .default('softmax')
    .describe(
      'What the router’s logits become scores by: softmax over the experts, or the sigmoid of each (DeepSeek-V3).',
    ),
  groups: ExpertGroupsConfig.optional().describe(
    'Groups of neighbouring experts, of which each token’s experts are in the best ones only; one group when left out.',
  ),
  logitCap: positiveFloat32()
    .optional()
    .describe('Soft cap of the router’s logits, cap·tanh(logit/cap); none when left out.'),
  normalizeTopK: z
    .boolean()
    .default(true)
    .describe('Whether the weights of the chosen experts are divided by their sum.'),
  scalingFactor: positiveFloat32()
    .default(1)
    .describe('Factor of the weights of the chosen experts, after they were divided by their sum.'),
  balanceBias: BalanceBiasConfig.optional().describe(
    'A bias of each expert’s score that counts where experts are chosen, and nowhere else, and that evens out their loads; beside the load-balancing loss or (with balanceCoefficient 0) in its place.',
  ),
  balanceCoefficient: z
    .number()
    .min(0)
    .default(0.01)
    .describe('Weight of the load-balancing loss over the global batch.'),
  zCoefficient: z.number().min(0).default(0.001).describe('Weight of the router z-loss.'),
});

export type ExpertsConfig = z.infer<typeof ExpertsConfig>;

/**
 * Architecture of a gated decoder-only transformer: RMS pre-norm, QK norm, rotary embedding, GQA, SwiGLU; with the gates
 * and controls of the paper.
 */
export const ModelConfig = z
  .strictObject({
    vocabularySize: z.int().min(2).describe('Rows of the embedding; at least the tokenizer’s vocabulary.'),
    hiddenSize: z.int().min(1).describe('Width of the residual stream.'),
    // Whatever is said of layers is looked at only where there are as many as can be counted out.
    numLayers: z
      .int()
      .min(1, { abort: true })
      .max(MOST_LAYERS, { abort: true })
      .describe('Number of decoder layers.'),
    numAttentionHeads: z.int().min(1).describe('Query heads.'),
    numKeyValueHeads: z.int().min(1).describe('Key-value heads; divides the query heads.'),
    headDim: z.int().min(2).max(MOST_CHANNELS).multipleOf(2).describe('Channels of one head; even.'),
    intermediateSize: z
      .int()
      .min(1)
      .optional()
      .describe('Hidden width of the dense feed-forward layers; leave out where all layers have experts.'),
    experts: ExpertsConfig.optional().describe(
      'Mixture of experts in place of the dense feed-forward layer.',
    ),
    ...FEED_FORWARD_FIELDS,
    ...NORM_FIELDS,
    ...MIXER_FIELDS,
    ...LATENT_FIELDS,
    layers: LayersConfig.optional().describe(
      'Layers of different kinds; left out, all layers are as the model says.',
    ),
    gate: GateConfig.optional().describe(
      'The model’s only gate, elementwise on the output of attention when neither this nor `gates` is given.',
    ),
    gates: z
      .array(GateConfig)
      .optional()
      .describe('Any number of gates, in place of `gate`; at one position they are applied in this order.'),
    controls: z
      .array(ControlConfig)
      .default([])
      .describe('Changes of the layers that are no gates, each of one kind; applied in this order.'),
    qkNorm: z
      .union([z.boolean(), z.enum(['weightless', 'all-heads'])])
      .default(true)
      .describe(
        'RMS norm of each query and key head before the rotary embedding; weightless: one that multiplies by nothing; all-heads: one of all heads together.',
      ),
    queryScale: positiveFloat32()
      .optional()
      .describe('Factor of the queries after a weightless norm; none when left out.'),
    ropeTheta: positiveFloat32().default(10000).describe('Base of the rotary embedding.'),
    ...ROPE_FIELDS,
    rmsNormEps: positiveFloat32().default(1e-6).describe('Added to the mean square in RMS norms.'),
    zeroCentredNorms: z
      .enum(['all', 'layers'])
      .optional()
      .describe(
        'Norms multiply by 1 + w, with weights w that are 0 at first: all of them, or those of the layers but not the last norm. Left out, they multiply by w, 1 at first.',
      ),
    embeddingScaling: z
      .enum(['sqrt', 'norm'])
      .optional()
      .describe(
        'sqrt: the embedding of a token times the root of hiddenSize; norm: divided by its root mean square. Left out, as it is.',
      ),
    logitScale: positiveFloat32()
      .optional()
      .describe('Factor of the model’s logits, before any cap; none when left out.'),
    tieWordEmbeddings: z.boolean().default(false).describe('Whether the output projection is the embedding.'),
    initializerRange: z
      .number()
      .positive()
      .default(0.02)
      .describe('Standard deviation of the initial weights.'),
    scale: z
      .enum(SCALES)
      .default('full')
      .describe(
        'small and tiny shrink the sizes given above, all by their own factors, and keep the ratios: query heads for each key-value head, experts for each token, depth.',
      ),
  })
  .superRefine((model, context) => {
    if (model.numAttentionHeads % model.numKeyValueHeads !== 0) {
      context.addIssue({
        code: 'custom',
        path: ['numKeyValueHeads'],
        message: `${model.numKeyValueHeads} key-value heads do not divide ${model.numAttentionHeads} query heads`,
      });
    }
    if (model.rotaryDim !== undefined && model.rotaryDim > model.headDim) {
      context.addIssue({
        code: 'custom',
        path: ['rotaryDim'],
        message: `${model.rotaryDim} channels of heads of ${model.headDim}`,
      });
    }
    if (model.queryScale !== undefined && model.qkNorm !== 'weightless') {
      context.addIssue({
        code: 'custom',
        path: ['queryScale'],
        message: 'queries have a factor only with qkNorm: weightless; other norms have weights',
      });
    }
    if (model.experts?.sharedGate && model.experts.sharedIntermediateSize === 0) {
      context.addIssue({
        code: 'custom',
        path: ['experts', 'sharedGate'],
        message: 'there is no shared expert (experts.sharedIntermediateSize is 0)',
      });
    }
    const gates = givenGates(model).map(({ gate }) => gate);
    const allGates = model.gate || model.gates ? gates : [GateConfig.parse({})];
    for (const fault of latentFaults(model, allGates)) context.addIssue({ code: 'custom', ...fault });
    for (const fault of mixerFaults(model)) context.addIssue({ code: 'custom', ...fault });
    for (const fault of layerFaults(model)) context.addIssue({ code: 'custom', ...fault });
    const isEitherMissing = model.intermediateSize === undefined || model.experts === undefined;
    const areBothMissing = model.intermediateSize === undefined && model.experts === undefined;
    if (areBothMissing || !(isEitherMissing || model.layers)) {
      context.addIssue({
        code: 'custom',
        path: ['intermediateSize'],
        message:
          'give either intermediateSize (dense) or experts (mixture of experts), and not both unless layers has kinds of both' +
          (areBothMissing ? '' : '; to drop the latter: --set model.experts=null'),
      });
    }
    if (model.experts && model.experts.topK > model.experts.count) {
      context.addIssue({
        code: 'custom',
        path: ['experts', 'topK'],
        message: `topK ${model.experts.topK} is more than the ${model.experts.count} experts`,
      });
    }
    const groupFault = model.experts && faultOfGroups(model.experts);
    if (groupFault) {
      context.addIssue({ code: 'custom', path: ['experts', 'groups'], message: groupFault });
    }
    if (model.gate && model.gates) {
      context.addIssue({
        code: 'custom',
        path: ['gate'],
        message: 'give either gate or gates, and not both; to drop the former: --set model.gate=null',
      });
    }
    for (const { path, gate } of givenGates(model)) {
      const reason = gateRefusal(gate, model);
      if (reason) context.addIssue({ code: 'custom', path, message: `there cannot be ${reason}` });
    }
    for (const { index, reason } of controlRefusals(model.controls, model)) {
      context.addIssue({ code: 'custom', path: ['controls', index], message: `there cannot be ${reason}` });
    }
  })
  // What is written in several ways comes out in one; writing the result down again means the same.
  .transform(({ gate, gates, scale, ...model }) => {
    const all = gates ?? [gate ?? GateConfig.parse({})];
    return scaleModel({ ...model, gates: all.filter(({ granularity }) => granularity !== 'none') }, scale);
  });

function faultOfGroups({ count, topK, groups }: ExpertsConfig): string | undefined {
  if (!groups) return undefined;
  if (count % groups.count !== 0) return `${groups.count} groups do not divide ${count} experts`;
  if (groups.topK > groups.count) return `topK ${groups.topK} is more than the ${groups.count} groups`;
  const within = (count / groups.count) * groups.topK;
  if (topK > within) return `${topK} experts of a token are more than the ${within} in ${groups.topK} groups`;
  return undefined;
}

interface GivenGates {
  readonly gate?: GateConfig | undefined;
  readonly gates?: readonly GateConfig[] | undefined;
}

/** The gates as they were written, with the path of each. */
function givenGates({ gate, gates }: GivenGates): { path: (string | number)[]; gate: GateConfig }[] {
  if (gate) return [{ path: ['gate'], gate }];
  return (gates ?? []).map((item, index) => ({ path: ['gates', index], gate: item }));
}

export type ModelConfig = z.infer<typeof ModelConfig>;
