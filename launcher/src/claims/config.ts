/** Claims as predicates over the results of experiments. */

import { loadYamlConfig } from '@sluice/core';
import { z } from 'zod';

/** What is measured of a run. */
export const MEASURES = [
  'validationLoss',
  'trainLoss',
  'spikes',
  'firstTokenAttention',
  'massiveActivation',
  'feedForwardActivation',
  'gateScoreMean',
  'gateBelowTenth',
  'largestAttentionLogit',
] as const;

/** What is measured of the answers to a question of the experiment. */
const RETRIEVAL_MEASURES = ['accuracy', 'choiceAccuracy', 'answerLoss'] as const;

export type RetrievalMeasure = (typeof RETRIEVAL_MEASURES)[number];

export type Measure = (typeof MEASURES)[number] | RetrievalMeasure;

export function isOfRetrieval(measure: Measure): measure is RetrievalMeasure {
  return (RETRIEVAL_MEASURES as readonly Measure[]).includes(measure);
}

const experiment = z.string().meta({ format: 'path' }).describe('File of the experiment.');
const measure = z
  .enum([...MEASURES, ...RETRIEVAL_MEASURES])
  .default('validationLoss')
  .describe('What is compared.');
const question = z
  .string()
  .optional()
  .describe('Which answers are measured: a question of the experiment’s `retrieval`.');
const row = z.string().describe('Name of the row that the claim is about.');
const than = z.string().describe('Name of the row that it is compared with.');
const layer = z
  .int()
  .min(0)
  .optional()
  .describe('Layer of `row` that is measured, from 0; all of them when left out.');

/** Two rows, paired by seed. */
const Comparison = z.strictObject({
  kind: z.literal('compare'),
  experiment,
  row,
  than,
  measure,
  question,
  layer,
  thanLayer: z.int().min(0).optional().describe('The same of `than`.'),
  expect: z.enum(['lower', 'higher', 'same']).describe('How the row is to come out.'),
  by: z
    .number()
    .min(0)
    .default(0)
    .describe('The least difference that counts; with `same`, the largest that does not.'),
  factor: z
    .number()
    .positive()
    .optional()
    .describe('Compare by ratio: `lower` is below `than` × factor, `higher` above it. In place of `by`.'),
});

/** One row, against a number. */
const Level = z.strictObject({
  kind: z.literal('level'),
  experiment,
  row,
  measure,
  question,
  layer,
  expect: z.enum(['below', 'above']),
  bound: z.number().describe('What the mean over seeds is to be below, or above.'),
});

/** How much of one row’s gain over `than` another row has. */
const Share = z.strictObject({
  kind: z.literal('share'),
  experiment,
  row,
  than,
  of: z.string().describe('Name of the row whose gain is the whole.'),
  measure,
  question,
  atLeast: z.number().describe('Share of the whole gain.'),
});

/** Whether a difference is larger in one setting than in another. */
const Interaction = z.strictObject({
  kind: z.literal('interaction'),
  experiment,
  row,
  than,
  otherRow: z.string().describe('The same variant in the other setting.'),
  otherThan: z.string().describe('What it is compared with there.'),
  measure,
  question,
  expect: z
    .enum(['lower', 'higher'])
    .describe(
      'How (row − than) is to lie to (otherRow − otherThan): lower is a larger gain where less is better.',
    ),
});

/** The largest stable learning rates of two rows, by `sluice find-lr`. */
const StableRate = z.strictObject({
  kind: z.literal('stable-rate'),
  experiment,
  row,
  than,
  expect: z.enum(['higher', 'lower', 'same']),
});

export const ClaimTest = z.discriminatedUnion('kind', [Comparison, Level, Share, Interaction, StableRate]);

export type ClaimTest = z.infer<typeof ClaimTest>;

export const Claim = z.strictObject({
  id: z.int().min(1),
  claim: z.string().describe('What is claimed, in a sentence.'),
  source: z.string().describe('Where the paper says so.'),
  paper: z.string().optional().describe('The paper’s own numbers.'),
  requires: z
    .array(ClaimTest)
    .default([])
    .describe(
      'What must be there to be tested, such as a sink without a gate; where it is not, there is no verdict.',
    ),
  tests: z.array(ClaimTest).describe('All must hold; empty where no experiment here can test it.'),
  limits: z.string().optional().describe('What the tests do not reach at a laptop’s scale.'),
  decides: z.string().describe('What would decide it: the smallest experiment that could, ready to run.'),
});

export type Claim = z.infer<typeof Claim>;

export const ClaimsConfig = z
  .strictObject({
    title: z.string(),
    source: z.string().optional(),
    claims: z.array(Claim).min(1),
  })
  .superRefine(({ claims }, context) => {
    claims.forEach(({ id }, index) => {
      if (claims.findIndex((claim) => claim.id === id) === index) return;
      context.addIssue({ code: 'custom', path: ['claims', index, 'id'], message: `a second claim ${id}` });
    });
  });

export type ClaimsConfig = z.infer<typeof ClaimsConfig>;

/** @throws the coded errors of `loadYamlConfig` */
export function loadClaims(path: string): ClaimsConfig {
  return loadYamlConfig(path, ClaimsConfig);
}

/** Rows that a test needs. */
export function rowsOf(test: ClaimTest): string[] {
  switch (test.kind) {
    case 'level':
      return [test.row];
    case 'share':
      return [test.row, test.than, test.of];
    case 'interaction':
      return [test.row, test.than, test.otherRow, test.otherThan];
    default:
      return [test.row, test.than];
  }
}
