import type { SluiceError } from '@sluice/core';
import { validateCudaSizes } from '@sluice/model';
import { ObserveConfig, SamplesConfig } from '@sluice/train';
import test from 'ava';
import {
  fittingExpertParallel,
  validateConfig,
  validateVocabulary,
} from '../../launcher/src/run/validate.ts';
import { smallConfig } from './support/config.ts';

test('a configuration whose numbers fit passes', (t) => {
  t.notThrows(() => validateConfig(smallConfig()));
  t.notThrows(() => validateConfig(smallConfig({ parallel: { workers: 1, expertParallel: 1 } })));
});

const refusals: [string, Parameters<typeof smallConfig>[0], string, RegExp][] = [
  [
    'workers that are no power of two',
    { parallel: { workers: 3, expertParallel: 1 } },
    'SLUICE_E_WORKERS_INVALID',
    /workers is 3/,
  ],
  [
    'more workers than lanes',
    { parallel: { workers: 4 } },
    'SLUICE_E_WORKERS_INVALID',
    /4, which does not divide the 2 lanes/,
  ],
  ['lanes that are no power of two', { parallel: { lanes: 6 } }, 'SLUICE_E_WORKERS_INVALID', /lanes is 6/],
  [
    'a batch of broken grains',
    { batch: { grainSequences: 3 } },
    'SLUICE_E_BATCH_INDIVISIBLE',
    /8, not a multiple of batch\.grainSequences 3/,
  ],
  [
    'settings of a group that the model does not have',
    { optimizer: { groups: { gate: { learningRateScale: 0.5 } } } },
    'SLUICE_E_OPTIMIZER_INVALID',
    /groups\.gate is given, but .* lies in one matrix with the queries.* It has: embedding, norms/,
  ],
  [
    'a decay of gates in a model without any',
    { model: { gates: [] }, optimizer: { gateWeightDecay: 0.1 } },
    'SLUICE_E_OPTIMIZER_INVALID',
    /gateWeightDecay is 0\.1, but the model has no gates/,
  ],
  [
    'QK-clip with QK norm',
    { optimizer: { qkClip: {} } },
    'SLUICE_E_OPTIMIZER_INVALID',
    /qkClip is given, but model\.qkNorm is on/,
  ],
  [
    'QK-clip with a gate that adds to queries',
    {
      model: { qkNorm: false, gates: [{}, { position: 'query', form: 'additive' }] },
      optimizer: { qkClip: {} },
    },
    'SLUICE_E_OPTIMIZER_INVALID',
    /qkClip is given, but the model has a gate that adds to the query/,
  ],
  [
    'replicas that are no power of two',
    { parallel: { lanes: 4, synchronize: { everySteps: 5, replicas: 3 } } },
    'SLUICE_E_SYNCHRONIZE_INVALID',
    /replicas is 3, not a power of two/,
  ],
  [
    'more parts of the model than steps between synchronizations',
    { parallel: { lanes: 4, synchronize: { everySteps: 2, replicas: 2, parts: 3 } } },
    'SLUICE_E_SYNCHRONIZE_INVALID',
    /parts is 3, more than the 2 that 2 steps between synchronizations have room for/,
  ],
  [
    'an exchange that goes on when the next one begins',
    { parallel: { lanes: 4, synchronize: { everySteps: 9, replicas: 2, parts: 2, overlapSteps: 4 } } },
    'SLUICE_E_SYNCHRONIZE_INVALID',
    /overlapSteps is 4, .* 4 steps later \(everySteps 9, parts 2\)\. Set it to 3 at most, or everySteps to 10 or more/,
  ],
  [
    'weights to be mixed where nothing overlaps steps',
    { parallel: { lanes: 4, synchronize: { everySteps: 9, replicas: 2, mixing: 0.5 } } },
    'SLUICE_E_SYNCHRONIZE_INVALID',
    /mixing is 0\.5, but no exchange overlaps steps/,
  ],
  [
    'grains that do not fill the lanes',
    { batch: { sequences: 6 } },
    'SLUICE_E_BATCH_INDIVISIBLE',
    /3 grains .* 2 lanes/,
  ],
  [
    'expert-parallel groups that do not fill the workers',
    { parallel: { expertParallel: 4 } },
    'SLUICE_E_EXPERT_PARALLEL_INVALID',
    /4, which does not divide parallel\.workers 2/,
  ],
  [
    'experts that do not divide',
    { model: { experts: { count: 5, topK: 2, intermediateSize: 8 } } },
    'SLUICE_E_EXPERT_PARALLEL_INVALID',
    /2, which does not divide the 5 experts/,
  ],
  [
    'expert parallelism without experts',
    { model: { experts: undefined, intermediateSize: 8 } },
    'SLUICE_E_EXPERT_PARALLEL_INVALID',
    /2, but the model has no experts/,
  ],
  [
    'a warm-up longer than the run',
    { schedule: { warmupSteps: 11 } },
    'SLUICE_E_SCHEDULE_INVALID',
    /warmupSteps is 11, but the run has 10 steps/,
  ],
  [
    'a decay longer than the run',
    { schedule: { kind: 'wsd', decaySteps: 11 } },
    'SLUICE_E_SCHEDULE_INVALID',
    /decaySteps is 11 and .*warmupSteps 0, together more than the 10 steps/,
  ],
  [
    'a decay that begins within the warm-up',
    { schedule: { kind: 'wsd', decaySteps: 6, warmupSteps: 5 } },
    'SLUICE_E_SCHEDULE_INVALID',
    /decaySteps is 6 and .*warmupSteps 5, together more than the 10 steps/,
  ],
  [
    'a decay of another schedule than wsd',
    { schedule: { kind: 'linear', decaySteps: 3 } },
    'SLUICE_E_SCHEDULE_INVALID',
    /decaySteps is 3, but schedule\.kind is linear/,
  ],
  [
    'a shape of decay of another schedule than wsd',
    { schedule: { decayShape: 'sqrt' } },
    'SLUICE_E_SCHEDULE_INVALID',
    /decayShape is sqrt, but schedule\.kind is cosine/,
  ],
  [
    'a ramp from more than the whole batch',
    { batch: { ramp: { from: 8, steps: 2 } } },
    'SLUICE_E_BATCH_RAMP_INVALID',
    /from is 8, not less than the 8 sequences/,
  ],
  [
    'a ramp whose sizes do not fill the lanes',
    { batch: { ramp: { from: 2, steps: 2 } } },
    'SLUICE_E_BATCH_RAMP_INVALID',
    /through 2 sequences, which do not divide into grains of 2 and 2 lanes/,
  ],
  [
    'a ramp that misses the whole batch by doubling',
    { batch: { sequences: 12, ramp: { from: 4, steps: 2 } } },
    'SLUICE_E_BATCH_RAMP_INVALID',
    /from is 4, which doubled does not come to 12/,
  ],
  [
    'a ramp that misses the whole batch by its increments',
    { batch: { sequences: 16, ramp: { from: 4, increment: 8, steps: 2 } } },
    'SLUICE_E_BATCH_RAMP_INVALID',
    /from is 4, which in increments of 8 .* does not come to 16/,
  ],
  [
    'a ramp of more sizes than steps',
    { batch: { sequences: 16, ramp: { from: 4, increment: 4, steps: 2 } } },
    'SLUICE_E_BATCH_RAMP_INVALID',
    /steps is 2, but the batch has 3 sizes/,
  ],
];

test('warm-up and decay may fill the run, and there may be no decay', (t) => {
  for (const schedule of [
    { warmupSteps: 10 },
    { kind: 'wsd', warmupSteps: 10 },
    { kind: 'wsd', warmupSteps: 4, decaySteps: 6 },
    { kind: 'wsd', decaySteps: 0 },
  ])
    t.notThrows(() => validateConfig(smallConfig({ schedule })));
});

test('a batch may grow through sizes that fill the lanes', (t) => {
  for (const ramp of [
    { from: 4, steps: 2 },
    { from: 4, tokens: 1000 },
    { from: 4, increment: 4, steps: 3 },
  ])
    t.notThrows(() => validateConfig(smallConfig({ batch: { sequences: 16, ramp } })));
});

for (const [what, changes, code, message] of refusals) {
  test(`${what}: refused with the numbers`, (t) => {
    const error = t.throws(() => validateConfig(smallConfig(changes)), { code });
    t.regex(error.message, message);
  });
}

test('a vocabulary smaller than the tokenizer’s is refused, an equal one is not', (t) => {
  t.notThrows(() => validateVocabulary(64, 64));
  const error = t.throws(() => validateVocabulary(64, 65), { code: 'SLUICE_E_VOCABULARY_TOO_SMALL' });
  t.regex(error.message, /64, but the tokenizer has 65/);
});

test('with --workers alone the expert-parallel size shrinks to fit, and never grows', (t) => {
  t.is(fittingExpertParallel(2, 1), 1);
  t.is(fittingExpertParallel(4, 2), 2);
  t.is(fittingExpertParallel(2, 8), 2);
});

test('a precision that the backend does not have is refused', (t) => {
  t.throws(() => validateConfig({ ...smallConfig(), precision: 'bf16' }), {
    code: 'SLUICE_E_BACKEND_UNSUPPORTED',
    message: /precision is bf16, but the backend "native" computes in f32 only/,
  });
  t.notThrows(() => validateConfig({ ...smallConfig(), precision: 'f32' }));
});

test('sizes that the kernels of cuda do not take are refused, rows in bf16 alone', (t) => {
  const faultOf = (model: object, precision?: 'f32') => {
    const sized = { ...smallConfig({ model: { headDim: 8, ...model } }), precision };
    const config = { ...sized, backend: 'cuda' as const };
    try {
      validateConfig(config);
    } catch (error) {
      t.is((error as SluiceError).code, 'SLUICE_E_CUDA_KERNEL');
      return (error as SluiceError).message;
    }
    return undefined;
  };
  const experts = { count: 8, topK: 2, intermediateSize: 12 };
  const mixer = { kind: 'kimi-delta-attention', heads: 2, keyDim: 264, valueDim: 3 };
  t.is(faultOf({}), undefined);
  t.regex(faultOf({ experts })!, /^model\.experts\.intermediateSize is 12, .* multiples of 8 alone/);
  t.is(faultOf({ experts }, 'f32'), undefined);
  t.regex(faultOf({ headDim: 12 }, 'f32')!, /headDim is 12, .* multiples of 8 up to 256 channels/);
  t.is(faultOf({ experts: { count: 1584, topK: 2, intermediateSize: 16 } }), undefined);
  t.regex(
    faultOf({ experts: { count: 1586, topK: 2, intermediateSize: 16 } })!,
    /^model\.experts\.count is 1586, .* 1584/,
  );
  const controls = [{ kind: 'attention-sink', score: 'learned' }];
  t.is(faultOf({ controls, headDim: 248 }), undefined);
  t.regex(
    faultOf({ controls, headDim: 256 })!,
    /headDim is 256, .* up to 248 channels beside the 8 of model\.controls/,
  );
  const vocabulary = { vocabularySize: 100, experts: { count: 8, topK: 2, intermediateSize: 16 } };
  t.regex(faultOf(vocabulary)!, /^model\.vocabularySize is 100, /);
  const { model } = smallConfig({ model: { headDim: 8, ...vocabulary } });
  t.notThrows(() => validateCudaSizes({ backend: 'cuda', model }, 'logits'));
  t.regex(faultOf({ mixer, headDim: 12 })!, /mixer\.keyDim is 264, .* up to 256 channels/);
});

test('experts shared among workers, and samples, are refused on a backend whose values can only be awaited, with the reason', (t) => {
  const error = t.throws(() => validateConfig({ ...smallConfig(), backend: 'webgpu' }), {
    code: 'SLUICE_E_BACKEND_UNSUPPORTED',
  });
  t.regex(error.message, /parallel\.expertParallel is 2, .*"webgpu".* can only be awaited\. Set it to 1/);
  const samples = { ...SamplesConfig.parse({}), everySteps: 5 };
  const sampling = {
    ...smallConfig(),
    backend: 'webgpu' as const,
    observe: ObserveConfig.parse({ samples }),
  };
  t.throws(() => validateConfig(sampling), {
    code: 'SLUICE_E_BACKEND_UNSUPPORTED',
    message: /observe\.samples\.everySteps is 5, .*"webgpu"/,
  });
});
