import { parseConfig } from '@sluice/core';
import { RunConfig, samplesBefore } from '@sluice/train';
import test from 'ava';
import { SMALL_CONFIG, smallConfig } from '../launcher/support/config.ts';

const SEQUENCE = SMALL_CONFIG.data.sequenceLength;

const given = (changes: object) => ({ ...SMALL_CONFIG, ...changes });

test('lengths in tokens become the fewest steps that have them', (t) => {
  const tokensOf = (steps: number) => steps * SMALL_CONFIG.batch.sequences * SEQUENCE;
  const { training, schedule } = RunConfig.parse(
    given({
      training: { tokens: tokensOf(100) - 1 },
      schedule: { kind: 'wsd', warmupTokens: tokensOf(5) + 1, decayTokens: tokensOf(20) },
    }),
  );
  t.deepEqual(training, { steps: 100 });
  t.is(schedule.warmupSteps, 6);
  t.is(schedule.decaySteps, 20);
  t.false('warmupTokens' in schedule || 'decayTokens' in schedule);
});

test('lengths in tokens follow a growing batch', (t) => {
  // 10 steps of 2 sequences, 10 of 4, then 8.
  const batch = { sequences: 8, ramp: { from: 2, steps: 20 } };
  const config = RunConfig.parse(
    given({
      batch,
      training: { tokens: 700 * SEQUENCE },
      schedule: { kind: 'wsd', warmupTokens: 24 * SEQUENCE, decayTokens: 641 * SEQUENCE },
    }),
  );
  t.is(config.training.steps, 100);
  t.is(samplesBefore(config, 101), 700);
  t.is(config.schedule.warmupSteps, 11);
  // The last 80 steps have 640 sequences.
  t.is(config.schedule.decaySteps, 81);
});

test('a resolved configuration means the same again', (t) => {
  const config = RunConfig.parse(
    given({
      batch: { sequences: 8, ramp: { from: 2, tokens: 4096 } },
      training: { tokens: 100_000 },
      schedule: { warmupTokens: 1000, unit: 'tokens' },
    }),
  );
  t.deepEqual(RunConfig.parse(config), config);
});

for (const [what, changes, key, message] of [
  ['the run', { training: { steps: 5, tokens: 4096 } }, 'training.tokens', /either steps \(5\) or tokens/],
  ['the run, in neither', { training: {} }, 'training.steps', /give either steps or tokens/],
  [
    'the warm-up',
    { schedule: { warmupSteps: 2, warmupTokens: 64 } },
    'schedule.warmupTokens',
    /warmupSteps \(2\)/,
  ],
  [
    'the decay',
    { schedule: { kind: 'wsd', decaySteps: 0, decayTokens: 64 } },
    'schedule.decayTokens',
    /decaySteps \(0\)/,
  ],
  [
    'the ramp',
    { batch: { sequences: 8, ramp: { from: 4, steps: 3, tokens: 9 } } },
    'batch.ramp.tokens',
    /--set batch\.ramp\.steps=null/,
  ],
] as const) {
  test(`a length of ${what} is given once`, (t) => {
    const code = 'SLUICE_E_CONFIG_INVALID';
    const error = t.throws(() => parseConfig(given(changes), RunConfig, 'run.yaml'), { code });
    t.regex(error.message, message);
    t.true(error.message.includes(key), error.message);
  });
}

test('a length is replaced by its other form when the former is dropped', (t) => {
  const tokens = 12 * 8 * SEQUENCE;
  const { training } = parseConfig(smallConfig(), RunConfig, 'run.yaml', [
    'training.steps=null',
    `training.tokens=${tokens}`,
  ]);
  t.deepEqual(training, { steps: 12 });
});
