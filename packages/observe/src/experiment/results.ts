/**
 * What an experiment found, as it is kept in `results.json`. Nothing in it depends on clocks, paths or the machine, so the same
 * experiment gives the same file to the byte.
 */

import { z } from 'zod';

export const RESULTS_FORMAT = 1;

const hash = z.string().regex(/^[0-9a-f]{64}$/);

const measured = {
  /** Mean attention that queries pay to the first token (paper, §4.3). */
  firstTokenAttention: z.number().nullable(),
  /** Largest absolute activation of the residual stream after a layer (paper, §4.3); overall the mean over layers. */
  massiveActivation: z.number().nullable(),
  /** The same of what the feed-forward block adds. */
  feedForwardActivation: z.number().nullable(),
  /** Mean score of the gates (paper, Table 4), and the share of scores below 0.1; null without a gate. */
  gateScoreMean: z.number().nullable(),
  gateBelowTenth: z.number().nullable(),
  /** Largest attention logit; overall of all layers. */
  largestAttentionLogit: z.number().nullable(),
};

/** Measured on held-out text after training (`sluice diagnose`), overall and layer by layer from the first on. */
export const ExperimentDiagnosis = z.strictObject({ ...measured, layers: z.array(z.strictObject(measured)) });

export type ExperimentDiagnosis = z.infer<typeof ExperimentDiagnosis>;

/** Of the answers to one question (`sluice evaluate --task`), a mean over all prompts. */
export const RetrievalScores = z.strictObject({
  /** Share of the prompts that were answered exactly. */
  accuracy: z.number(),
  /** Share of the answers' words that were found. */
  recall: z.number(),
  /** Share in which the answer is likelier than each of the others to choose from. */
  choiceAccuracy: z.number(),
  /** Nats a token of the answers. */
  answerLoss: z.number(),
});

export type RetrievalScores = z.infer<typeof RetrievalScores>;

/** One run: a row of the experiment with one seed. */
export const ExperimentRun = z.strictObject({
  row: z.string(),
  seed: z.int(),
  learningRate: z.number(),
  /**
   * `finished`: to its last step. `diverged`: its values became non-finite, or its loss stayed hopeless; a result like
   * another. `failed`: something else ended it. `pending`: not run yet.
   */
  outcome: z.enum(['finished', 'diverged', 'failed', 'pending']),
  /** Why, and at which step, where it did not finish. */
  reason: z.string().nullable(),
  errorCode: z.string().nullable(),
  /** Last step that was taken, and steps that were to be taken. */
  step: z.int(),
  steps: z.int(),
  /** Tokens trained on. */
  tokens: z.int(),
  /** Mean loss of the last twentieth of the steps, nats a token. */
  trainLoss: z.number().nullable(),
  /** On the held-out split after the last step, nats a token. */
  validationLoss: z.number().nullable(),
  /** Episodes that the spike detector finds in the loss, by its default settings. */
  spikes: z.int(),
  /** Of the resolved configuration, without what changes no bit. */
  configHash: hash,
  /** Content hash of the weights; null where there are none. */
  weightsHash: hash.nullable(),
  /**
   * What computed the weights, as their checkpoint says; null where there are none, or where what wrote the result knew of no such
   * thing.
   */
  arithmetic: z.string().nullable().default(null),
  diagnosis: ExperimentDiagnosis.nullable(),
  /** By the name of the question; left out where the experiment asks none, or the run did not finish. */
  retrieval: z.record(z.string(), RetrievalScores).optional(),
  /** Thinned: each point is the mean of the steps since the point before. */
  curve: z.strictObject({
    steps: z.array(z.int()),
    loss: z.array(z.number().nullable()),
    gradientNorm: z.array(z.number().nullable()),
  }),
  validations: z.array(z.strictObject({ step: z.int(), loss: z.number().nullable() })),
});

export type ExperimentRun = z.infer<typeof ExperimentRun>;

export const ExperimentResultRow = z.strictObject({
  name: z.string(),
  method: z.string(),
  /** Name of the row that this one is compared with; its own for a baseline. */
  baseline: z.string(),
  parameters: z.strictObject({ total: z.int(), active: z.int(), added: z.int() }),
  /** Numbers of the paper by the name of the measure; null where training diverged there. */
  paper: z.record(z.string(), z.number().nullable()),
  notes: z.string().nullable(),
});

export type ExperimentResultRow = z.infer<typeof ExperimentResultRow>;

export const ExperimentResults = z.strictObject({
  format: z.literal(RESULTS_FORMAT),
  /** Name of the experiment's file without its ending. */
  name: z.string(),
  title: z.string(),
  source: z.string().nullable(),
  notes: z.string().nullable(),
  scale: z.string(),
  version: z.string(),
  /** Of all rows, each once, in their order. */
  arithmetic: z.string(),
  /** Loss of a unigram model on the held-out split, nats a token: what a model that learnt nothing about order has. */
  unigramLoss: z.number().nullable(),
  rows: z.array(ExperimentResultRow),
  seeds: z.array(z.int()),
  runs: z.array(ExperimentRun),
});

export type ExperimentResults = z.infer<typeof ExperimentResults>;
