import { positiveFloat32 } from '@sluice/core';
import { PARAMETER_GROUPS, type ParameterGroup } from '@sluice/model';
import { z } from 'zod';

const DESCRIPTIONS: Readonly<Record<ParameterGroup, string>> = {
  embedding: 'The table of tokens; the head too where they are tied.',
  attention:
    'Projections of attention, with a gate that is interleaved with the queries, and what controls add to them.',
  gate: 'Gates that have tensors of their own.',
  feedForward: 'Dense feed-forward layers.',
  experts: 'Experts, shared ones too.',
  router: 'Routers to experts.',
  norms: 'Gains of all norms.',
  head: 'The output projection.',
};

/** What only Muon has. */
export const MuonConfig = z.strictObject({
  momentum: z.number().min(0).lt(1).default(0.95).describe('Decay of the momentum.'),
  iterations: z
    .int()
    .min(1)
    .max(100)
    .default(5)
    .describe('Newton–Schulz iterations that orthogonalize an update; the usual five come near enough.'),
});

export type MuonConfig = z.infer<typeof MuonConfig>;

/** What one group of parameters has in place of what the others have. */
const GroupConfig = z
  .strictObject({
    learningRate: positiveFloat32().optional().describe('Its own peak; the schedule is the same.'),
    learningRateScale: z
      .number()
      .min(0)
      .optional()
      .describe('In place of `learningRate`: a factor on that of the others; 0 leaves the group as it is.'),
    weightDecay: z
      .number()
      .min(0)
      .optional()
      .describe('Its own weight decay; for norms too, which have none otherwise, but for no bias or sink.'),
  })
  .superRefine(({ learningRate, learningRateScale }, context) => {
    if (learningRate !== undefined && learningRateScale !== undefined) {
      context.addIssue({
        code: 'custom',
        path: ['learningRateScale'],
        message: `give either learningRate (${learningRate}) or learningRateScale (${learningRateScale}), and not both`,
      });
    }
  });

const GroupsConfig = z.strictObject(
  Object.fromEntries(
    PARAMETER_GROUPS.map((group) => [group, GroupConfig.optional().describe(DESCRIPTIONS[group])]),
  ) as Record<ParameterGroup, z.ZodOptional<typeof GroupConfig>>,
);

/** What only adaptive clipping has. */
export const AdaptiveClipConfig = z.strictObject({
  decay: z.number().min(0).lt(1).default(0.97).describe('Of the running mean and variance of the norm.'),
  warmupSteps: z
    .int()
    .min(2)
    .default(25)
    .describe('Steps whose norms make the first mean and variance, and are clipped by `clipNorm` alone.'),
  threshold: z.number().positive().default(2.5).describe('Deviations above the mean that are clipped.'),
});

export type AdaptiveClipConfig = z.infer<typeof AdaptiveClipConfig>;

export const QkClipConfig = z.strictObject({
  threshold: z
    .number()
    .positive()
    .default(100)
    .describe('Largest attention logit q·k/√d that a head may have in a step and keep its weights.'),
});

export const OptimizerConfig = z
  .strictObject({
    kind: z
      .enum(['adamw', 'muon'])
      .default('adamw')
      .describe(
        'muon: orthogonalized momentum for the matrices of attention, gates, feed-forward layers, experts and routers, AdamW for the rest; rates mean the same for both.',
      ),
    learningRate: positiveFloat32().describe('Peak learning rate.'),
    weightDecay: z
      .number()
      .min(0)
      .default(0.1)
      .describe('Decoupled weight decay; not applied to norms, unless `groups` says so.'),
    beta1: z.number().min(0).lt(1).default(0.9).describe('AdamW’s decay of the first moment.'),
    beta2: z.number().min(0).lt(1).default(0.95).describe('AdamW’s decay of the second moment.'),
    epsilon: positiveFloat32().default(1e-8).describe('Added to the root of AdamW’s second moment.'),
    gateWeightDecay: z
      .number()
      .min(0)
      .optional()
      .describe(
        'Weight decay of all matrices of gates, those interleaved with the queries too: keeps them from growing until they close. That of their groups when left out.',
      ),
    muon: MuonConfig.optional().describe('Settings of Muon; only with `kind: muon`.'),
    groups: GroupsConfig.optional().describe('Groups of parameters with settings of their own.'),
    clip: z
      .enum(['global', 'groups', 'adaptive'])
      .default('global')
      .describe(
        'What is clipped. global: the norm of the whole gradient; groups: that of each group of parameters; adaptive: global, at a limit that follows the norm too.',
      ),
    clipNorm: z
      .number()
      .min(0)
      .default(1)
      .describe('Largest norm of the gradient, or of a group’s; 0 for no such limit.'),
    adaptiveClip: AdaptiveClipConfig.optional().describe(
      'Settings of adaptive clipping; only with `clip: adaptive`.',
    ),
    qkClip: QkClipConfig.optional().describe(
      'Scales query and key weights of heads whose attention logits grow too large; only without `model.qkNorm`.',
    ),
  })
  .superRefine(({ kind, muon, clip, adaptiveClip, gateWeightDecay, groups }, context) => {
    if (gateWeightDecay !== undefined && groups?.gate?.weightDecay !== undefined) {
      context.addIssue({
        code: 'custom',
        path: ['gateWeightDecay'],
        message: `give either gateWeightDecay (${gateWeightDecay}) or groups.gate.weightDecay (${groups.gate.weightDecay}), and not both`,
      });
    }
    if (adaptiveClip && clip !== 'adaptive') {
      context.addIssue({
        code: 'custom',
        path: ['adaptiveClip'],
        message: `optimizer.clip is ${clip}, which has no such settings; set it to adaptive, or leave them out (--set optimizer.adaptiveClip=null)`,
      });
    }
    if (muon && kind !== 'muon') {
      context.addIssue({
        code: 'custom',
        path: ['muon'],
        message: `optimizer.kind is ${kind}, which has no settings of Muon; set it to muon, or leave them out (--set optimizer.muon=null)`,
      });
    }
  })
  .transform(({ muon, adaptiveClip, ...optimizer }) => ({
    ...optimizer,
    ...(optimizer.kind === 'muon' && { muon: muon ?? MuonConfig.parse({}) }),
    ...(optimizer.clip === 'adaptive' && { adaptiveClip: adaptiveClip ?? AdaptiveClipConfig.parse({}) }),
  }));

export type OptimizerConfig = z.infer<typeof OptimizerConfig>;
