import { positiveFloat32 } from '@sluice/core';
import { z } from 'zod';

/** What only Muon has. */
export const MuonConfig = z.strictObject({
  momentum: z.number().min(0).lt(1).default(0.95).describe('Decay of the momentum.'),
  iterations: z
    .int()
    .min(1)
    .default(5)
    .describe('Newton–Schulz iterations that orthogonalize an update; the usual five come near enough.'),
});

export type MuonConfig = z.infer<typeof MuonConfig>;

export const OptimizerConfig = z
  .strictObject({
    kind: z
      .enum(['adamw', 'muon'])
      .default('adamw')
      .describe(
        'muon: orthogonalized momentum for the matrices of attention, gates, feed-forward layers, experts and routers, AdamW for the rest; rates mean the same for both.',
      ),
    learningRate: positiveFloat32().describe('Peak learning rate.'),
    weightDecay: z.number().min(0).default(0.1).describe('Decoupled weight decay; not applied to norms.'),
    beta1: z.number().min(0).lt(1).default(0.9).describe('AdamW’s decay of the first moment.'),
    beta2: z.number().min(0).lt(1).default(0.95).describe('AdamW’s decay of the second moment.'),
    epsilon: positiveFloat32().default(1e-8).describe('Added to the root of AdamW’s second moment.'),
    muon: MuonConfig.optional().describe('Settings of Muon; only with `kind: muon`.'),
    clipNorm: z.number().min(0).default(1).describe('Largest global gradient norm; 0 for no clipping.'),
  })
  .superRefine(({ kind, muon }, context) => {
    if (muon && kind !== 'muon') {
      context.addIssue({
        code: 'custom',
        path: ['muon'],
        message: `optimizer.kind is ${kind}, which has no settings of Muon; set it to muon, or leave them out`,
      });
    }
  })
  .transform(({ muon, ...optimizer }) => ({
    ...optimizer,
    ...(optimizer.kind === 'muon' && { muon: muon ?? MuonConfig.parse({}) }),
  }));

export type OptimizerConfig = z.infer<typeof OptimizerConfig>;
