/** The axis of gates in the configuration of a model, and which of its combinations make no sense. */

import { z } from 'zod';
import type { BlockSizes } from '../block.ts';
import { GATE_ACTIVATION_NAMES, GATE_ACTIVATIONS } from './activations/index.ts';
import { GATE_POSITIONS } from './positions.ts';

/**
 * One gate (paper §2.2, eq. 5): Y' = Y ⊙ σ(X W), where Y is the tensor at its position and X the block's input after its
 * norm. Nothing but `granularity` is needed for the gates that the paper recommends.
 */
export const GateConfig = z.strictObject({
  position: z
    .enum(GATE_POSITIONS)
    .default('sdpa')
    .describe(
      'sdpa: on the output of attention (G1); value, key, query: on these projections, before their norm (G2, G3, G4); output: after the output projection (G5).',
    ),
  granularity: z
    .enum(['none', 'elementwise', 'headwise'])
    .default('elementwise')
    .describe(
      'elementwise: one score for each channel of each head; headwise: one for each head; none: no gate.',
    ),
  sharing: z
    .enum(['head-specific', 'head-shared'])
    .default('head-specific')
    .describe('head-shared: all heads get the mean of their scores, taken after the activation.'),
  form: z
    .enum(['multiplicative', 'additive'])
    .default('multiplicative')
    .describe('multiplicative: Y ⊙ scores; additive: Y + scores.'),
  activation: z
    .enum(GATE_ACTIVATION_NAMES)
    .default('sigmoid')
    .describe(
      `Scores of logits. ${GATE_ACTIVATIONS.map(({ name, describe }) => `${name}: ${describe}`).join('; ')}.`,
    ),
  input: z
    .enum(['query-dependent', 'input-independent'])
    .default('query-dependent')
    .describe(
      'query-dependent: logits from the token’s hidden state; input-independent: logits are learned and the same for all tokens.',
    ),
  initialWeights: z
    .enum(['normal', 'zeros'])
    .default('normal')
    .describe('Initial W of a query-dependent gate: as other matrices, or zeros.'),
  initialLogit: z
    .number()
    .optional()
    .describe(
      'query-dependent: adds a learned bias to the logits that starts at this number, none when left out; input-independent: where the logits start, 0 when left out.',
    ),
});

export type GateConfig = z.infer<typeof GateConfig>;

/** Why a gate cannot be had in a model of these sizes; undefined when it can. */
export function gateRefusal(gate: GateConfig, { qkNorm }: Pick<BlockSizes, 'qkNorm'>): string | undefined {
  const { position, granularity, sharing, form, input, initialWeights } = gate;
  if (granularity === 'none') return undefined;
  if (position === 'output' && granularity === 'headwise')
    return 'a headwise gate at the position output, where there are no heads any more; use elementwise';
  if (position === 'output' && sharing === 'head-shared')
    return 'a head-shared gate at the position output, where there are no heads any more; use head-specific';
  const isBeforeNorm = qkNorm && (position === 'query' || position === 'key');
  if (isBeforeNorm && granularity === 'headwise' && form === 'multiplicative')
    return `a headwise gate at the position ${position}, whose scale the norm that follows takes out again; use elementwise, or set qkNorm to false`;
  if (input === 'input-independent' && initialWeights === 'zeros')
    return 'initialWeights of an input-independent gate, which has no W; its logits start at initialLogit';
  return undefined;
}
