import { DataConfig } from '@sluice/data';
import { RunConfig } from '@sluice/train';
import test from 'ava';
import { z } from 'zod';
import type { JournalEntry } from '../../launcher/src/run/journal.ts';
import {
  judgeChanges,
  keysAllowedBefore,
  RESUME_RULES,
  refuseChangedPast,
  refuseVainAllow,
  resumeRule,
} from '../../launcher/src/run/resumeRules.ts';
import { smallConfig } from './support/config.ts';

test('every key of a run’s configuration has a declared rule', (t) => {
  const sections = Object.keys(z.toJSONSchema(RunConfig, { io: 'input' }).properties ?? {});
  const undeclared = sections.filter(
    (section) =>
      !(section in RESUME_RULES) && !Object.keys(RESUME_RULES).some((key) => key.startsWith(`${section}.`)),
  );
  t.deepEqual(undeclared, []);
});

test('what changes no bit is free, what the weights depend on is fixed, the rest needs --allow', (t) => {
  for (const key of [
    'parallel.workers',
    'parallel.expertParallel',
    'parallel.threads',
    'checkpoint.keep',
    'evaluation.everySteps',
    'diagnostics.everySteps',
  ]) {
    t.is(resumeRule(key), 'free', key);
  }
  for (const key of [
    'seed',
    'model.hiddenSize',
    'model.gate.granularity',
    'data.sequenceLength',
    'batch.sequences',
    'parallel.lanes',
    'parallel.synchronize.overlapSteps',
    'optimizer.kind',
    'training.unheardOf',
    'unheardOf',
  ]) {
    t.is(resumeRule(key), 'fixed', key);
  }
  for (const key of [
    'training.steps',
    'optimizer.learningRate',
    'optimizer.muon.momentum',
    'schedule.kind',
    'backend',
    'precision',
    'data.recipe',
    'spikes.policy',
    'parallel.gradients',
  ]) {
    t.is(resumeRule(key), 'allow', key);
  }
});

test('no change is no decision, and free changes are listed', (t) => {
  t.deepEqual(judgeChanges(smallConfig(), smallConfig(), []), []);
  const now = smallConfig({ parallel: { workers: 1, expertParallel: 1 } });
  t.deepEqual(judgeChanges(smallConfig(), now, []), [
    { key: 'parallel.expertParallel', saved: 2, now: 1, allowed: false },
    { key: 'parallel.workers', saved: 2, now: 1, allowed: false },
  ]);
});

test('a change that needs --allow is refused with key and both values, and passes with its key or its section', (t) => {
  const now = smallConfig({ optimizer: { learningRate: 0.002 } });
  const error = t.throws(() => judgeChanges(smallConfig(), now, []), { code: 'SLUICE_E_RESUME_NEEDS_ALLOW' });
  t.regex(error.message, /optimizer\.learningRate \(saved 0\.001, now 0\.002\)/);
  t.regex(error.message, /--allow optimizer\.learningRate/);
  t.throws(() => judgeChanges(smallConfig(), now, ['optimizer.learning', 'training']), {
    code: 'SLUICE_E_RESUME_NEEDS_ALLOW',
  });
  for (const allow of ['optimizer.learningRate', 'optimizer']) {
    t.deepEqual(judgeChanges(smallConfig(), now, [allow]), [
      { key: 'optimizer.learningRate', saved: 0.001, now: 0.002, allowed: true },
    ]);
  }
});

test('--allow takes the keys that it has a say in, and the sections of such keys', (t) => {
  for (const key of [
    'training.steps',
    'training',
    'optimizer',
    'optimizer.beta2',
    'data',
    'data.recipe',
    'backend',
    'parallel',
  ])
    t.notThrows(() => refuseVainAllow([key]), key);
});

const inVain: [string, RegExp][] = [
  ['optimizer.learningRat', /no such key \(did you mean optimizer\.learningRate\?\)/],
  ['learningRate', /no such key \(did you mean optimizer\.learningRate\?\)/],
  ['Schedule', /no such key \(did you mean schedule\?\)/],
  ['unheardOf', /no such key\.$/m],
  ['', /--allow : the configuration has no such key/],
  ['seed', /a resumed run cannot change it/],
  ['model.hiddenSize', /a resumed run cannot change it/],
  ['parallel.workers', /nothing in it needs to be allowed/],
  ['evaluation', /nothing in it needs to be allowed/],
];

for (const [key, reason] of inVain) {
  test(`--allow ${key} is refused with what may be allowed`, (t) => {
    const error = t.throws(() => refuseVainAllow(['training.steps', key]), {
      code: 'SLUICE_E_RESUME_ALLOW_INVALID',
    });
    t.regex(error.message, new RegExp(`^--allow ${key}: `));
    t.regex(error.message, reason);
    t.regex(
      error.message,
      /backend, precision, data\.recipe, data\.mixture\.recipes, data\.mixture\.schedule, parallel\.gradients, training\.steps, optimizer, schedule, spikes\.$/,
    );
  });
}

test('a fixed key is refused even with --allow', (t) => {
  const now = smallConfig({ model: { hiddenSize: 16 }, batch: { grainSequences: 4 } });
  const error = t.throws(() => judgeChanges(smallConfig(), now, ['model', 'batch']), {
    code: 'SLUICE_E_RESUME_KEY_FIXED',
  });
  t.regex(error.message, /batch\.grainSequences \(saved 2, now 4\), model\.hiddenSize \(saved 8, now 16\)/);
});

test('a section that only one side has is told key by key', (t) => {
  const dense = smallConfig({
    model: { experts: undefined, intermediateSize: 8 },
    parallel: { expertParallel: 1 },
  });
  const error = t.throws(() => judgeChanges(smallConfig(), dense, []), { code: 'SLUICE_E_RESUME_KEY_FIXED' });
  t.regex(error.message, /model\.experts/);
  t.regex(error.message, /model\.intermediateSize \(saved unset, now 8\)/);
});

test('a change allowed by a resume that died before its first checkpoint stays allowed, with that value only', (t) => {
  const change = { key: 'training.steps', saved: 10, now: 20, allowed: true };
  const entry = {
    kind: 'resume',
    step: 4,
    time: '',
    workers: 2,
    expertParallel: 2,
    changes: [change],
    refusedCheckpoints: [],
  };
  const journal = [entry as JournalEntry];
  t.deepEqual(keysAllowedBefore(journal, smallConfig({ training: { steps: 20 } })), ['training.steps']);
  t.deepEqual(keysAllowedBefore(journal, smallConfig({ training: { steps: 30 } })), []);
});

test('weights of a mixture may change for what comes next, and not for what has been read', (t) => {
  const data = (...fromTokens: number[]) =>
    DataConfig.parse({
      sequenceLength: 16,
      mixture: {
        recipes: ['a.yaml', 'b.yaml'],
        weights: [1, 1],
        schedule: fromTokens.map((at, i) => ({ fromTokens: at, weights: [1, i + 2] })),
      },
    });
  const saved = data(160, 32_000);
  t.notThrows(() => refuseChangedPast(saved, data(160, 1600), 100));
  t.notThrows(() => refuseChangedPast(saved, data(160), 2000));
  t.throws(() => refuseChangedPast(saved, data(160, 1599), 101), {
    code: 'SLUICE_E_MIXTURE_PAST',
    message: /has read 1616 tokens .* from token 1600 on.* fromTokens 1616 or more/,
  });
  t.throws(() => refuseChangedPast(saved, data(), 11), { code: 'SLUICE_E_MIXTURE_PAST' });
  t.notThrows(() => refuseChangedPast(saved, data(), 10));
  const single = DataConfig.parse({ recipe: 'a.yaml', sequenceLength: 16 });
  t.notThrows(() => refuseChangedPast(single, single, 500));
});
