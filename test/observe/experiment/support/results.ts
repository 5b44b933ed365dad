/** Made-up results of experiments. */

import { ExperimentResults, type ExperimentRun, RESULTS_FORMAT } from '@sluice/observe';
import fc from 'fast-check';

const digit = (text: string) => [...text].reduce((sum, character) => sum + character.charCodeAt(0), 0) % 16;
const hashOf = (text: string) => digit(text).toString(16).repeat(64);

/** What a diagnosis of a model without a gate holds. */
export function measured(firstTokenAttention: number, massiveActivation: number) {
  return {
    ...{ firstTokenAttention, massiveActivation, feedForwardActivation: massiveActivation / 2 },
    ...{ gateScoreMean: null, gateBelowTenth: null, largestAttentionLogit: 12 },
  };
}

export function run(row: string, seed: number, changes: Partial<ExperimentRun> = {}): ExperimentRun {
  return {
    ...{ row, seed, learningRate: 0.004, outcome: 'finished', reason: null, errorCode: null },
    ...{ step: 400, steps: 400, tokens: 819_200, trainLoss: 4.1, validationLoss: 4.2, spikes: 0 },
    ...{ configHash: hashOf(`${row}${seed}`), weightsHash: hashOf(`${seed}${row}`), arithmetic: 'fma-1' },
    diagnosis: { ...measured(0.2, 60), layers: [measured(0.1, 20), measured(0.3, 100)] },
    curve: { steps: [100, 200, 400], loss: [6, 5, 4.1], gradientNorm: [1, 0.5, 0.25] },
    validations: [{ step: 400, loss: 4.2 }],
    ...changes,
  };
}

/** A run that diverged, which leaves no weights and no final loss. */
export function diverged(row: string, seed: number, step: number): ExperimentRun {
  return run(row, seed, {
    ...{ outcome: 'diverged', reason: `the loss became NaN at step ${step}`, step, spikes: 2 },
    ...{
      errorCode: 'SLUICE_E_DIVERGED',
      trainLoss: null,
      validationLoss: null,
      weightsHash: null,
      arithmetic: null,
    },
    ...{ diagnosis: null, validations: [] },
    curve: { steps: [100, step], loss: [6, null], gradientNorm: [1, null] },
  });
}

type Row = ExperimentResults['rows'][number];

export function row(name: string, changes: Partial<Row> = {}): Row {
  return {
    ...{ name, method: `method of ${name}`, baseline: 'baseline', paper: {}, notes: null },
    parameters: { total: 7_000_000, active: 3_500_000, added: name === 'baseline' ? 0 : 65_536 },
    ...changes,
  };
}

export function results(changes: Partial<ExperimentResults> = {}): ExperimentResults {
  const rows = changes.rows ?? [row('baseline'), row('gate')];
  const seeds = changes.seeds ?? [1, 2, 3];
  return ExperimentResults.parse({
    ...{ format: RESULTS_FORMAT, name: 'table9', title: 'Made up', source: null, notes: null, scale: 'tiny' },
    ...{ version: '0.1.0', arithmetic: 'fma-1', unigramLoss: 6.5 },
    ...{ rows, seeds, runs: rows.flatMap(({ name }) => seeds.map((seed) => run(name, seed))) },
    ...changes,
  });
}

const number = fc.double({ noNaN: true, noDefaultInfinity: true });
const whole = fc.integer({ min: 0, max: 1e9 });
const hash = fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: 64, maxLength: 64 });
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: null });
const measures = {
  ...{ firstTokenAttention: maybe(number), massiveActivation: maybe(number) },
  ...{ feedForwardActivation: maybe(number), gateScoreMean: maybe(number) },
  ...{ gateBelowTenth: maybe(number), largestAttentionLogit: maybe(number) },
};

/** Few names, so that rows meet their runs and baselines, and some that a page must not take for its own. */
const name = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom('baseline', 'gate', 'headwise', '</script><b>"&') },
  { weight: 1, arbitrary: fc.string({ unit: 'grapheme' }) },
);

const anyRun = fc.record({
  ...{ row: name, seed: fc.integer({ min: 0, max: 4 }), learningRate: number },
  outcome: fc.constantFrom('finished', 'finished', 'diverged', 'failed', 'pending'),
  ...{ reason: maybe(name), errorCode: maybe(name), step: whole, steps: whole, tokens: whole },
  ...{ trainLoss: maybe(number), validationLoss: maybe(number), spikes: whole },
  ...{ configHash: hash, weightsHash: maybe(hash), arithmetic: maybe(name) },
  diagnosis: maybe(fc.record({ ...measures, layers: fc.array(fc.record(measures), { maxLength: 4 }) })),
  curve: fc.record({
    steps: fc.array(whole, { maxLength: 6 }),
    loss: fc.array(maybe(number), { maxLength: 6 }),
    gradientNorm: fc.array(maybe(number), { maxLength: 6 }),
  }),
  validations: fc.array(fc.record({ step: whole, loss: maybe(number) }), { maxLength: 3 }),
});

/** Whatever the schema takes, sensible or not. */
export const anyResults: fc.Arbitrary<ExperimentResults> = fc
  .record({
    format: fc.constant(RESULTS_FORMAT),
    ...{ name, title: name, source: maybe(name), notes: maybe(name), scale: name, version: name },
    ...{ arithmetic: name, unigramLoss: maybe(number) },
    rows: fc.array(
      fc.record({
        ...{ name, method: name, baseline: name, notes: maybe(name) },
        parameters: fc.record({ total: whole, active: whole, added: whole }),
        paper: fc.dictionary(
          fc.constantFrom('perplexity', 'firstTokenAttention', 'massiveActivation', 'mmlu', '<i>'),
          maybe(number),
        ),
      }),
      { maxLength: 4 },
    ),
    seeds: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }),
    runs: fc.array(anyRun, { maxLength: 10 }),
  })
  .map((value) => ExperimentResults.parse(value));
