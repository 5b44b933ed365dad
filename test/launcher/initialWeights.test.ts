import { appendFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { importHuggingFace } from '@sluice/checkpoint/huggingface';
import type { SluiceError } from '@sluice/core';
import { RunConfig } from '@sluice/train';
import test from 'ava';
import { stringify } from 'yaml';
import { prepareDataset } from '../../launcher/src/coordinator/dataset.ts';
import { resumeRun } from '../../launcher/src/coordinator/resumeRun.ts';
import {
  checkInitialTokenizer,
  checkInitialWeights,
  initialWeightsLines,
  modelOfWeights,
} from '../../launcher/src/run/initialWeights.ts';
import { openJournal, readJournal } from '../../launcher/src/run/journal.ts';
import { loadModel } from '../../launcher/src/run/loadModel.ts';
import { planModel } from '../../launcher/src/run/planModel.ts';
import { freezeRunConfig, loadNewRunConfig, withModelOfWeights } from '../../launcher/src/run/runConfig.ts';
import { runDirectory } from '../../launcher/src/run/runDirectory.ts';
import { fixture } from '../fixtures/huggingface/fixtures.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { SMALL_CONFIG, smallConfig } from './support/config.ts';
import { makeSavedRun } from './support/savedRun.ts';

const quiet = () => {};
const SOURCE = fixture('gated-headwise');

/** What a run begins with whose model is that of the fixture, changed. */
async function begin(changes: object = {}, missing: 'refuse' | 'initialize' = 'refuse', from = SOURCE) {
  const { optimizer } = smallConfig();
  const source = await modelOfWeights(SOURCE);
  const { model } = smallConfig({ model: { experts: undefined, ...source, ...changes } });
  return checkInitialWeights({ model, optimizer, initialize: { from, missing, optimizer: 'fresh' } });
}

test('a Hugging Face directory has the content hash of the checkpoint that it is imported to', async (t) => {
  const checkpoint = join(temporaryDirectory(t), 'checkpoint');
  const { weights } = await importHuggingFace(SOURCE, checkpoint);
  t.is((await begin())!.weights, weights);
  t.deepEqual(await begin({}, 'refuse', checkpoint), {
    path: checkpoint,
    weights,
    changes: [],
    initialized: [],
  });
});

test('what changes no tensor may differ, and is told', async (t) => {
  const scaling = { kind: 'linear', factor: 2 };
  const begun = (await begin({ ropeTheta: 5e5, ropeScaling: scaling }))!;
  t.deepEqual(
    begun.changes.map(({ key, after }) => [key, after]),
    [
      ['model.ropeScaling.factor', 2],
      ['model.ropeScaling.kind', 'linear'],
      ['model.ropeTheta', 5e5],
    ],
  );
  const lines = initialWeightsLines(begun);
  t.true(lines[0]!.includes(SOURCE) && lines[0]!.includes(begun.weights));
  t.is(lines[2], '  model.ropeScaling.kind: unset there, "linear" here');
});

test('every tensor that differs is named, with both shapes', async (t) => {
  const { vocabularySize, hiddenSize } = await modelOfWeights(SOURCE);
  const { message, details } = (await t.throwsAsync(begin({ vocabularySize: 7, gates: [], numLayers: 1 }), {
    code: 'SLUICE_E_WEIGHTS_MISMATCH',
  })) as SluiceError;
  t.true(
    message.includes(
      `model.embed_tokens.weight is [${vocabularySize}, ${hiddenSize}] there, [7, ${hiddenSize}] in the model`,
    ),
  );
  const { faults } = details as { faults: string[] };
  t.true(faults.some((fault) => /^model\.layers\.0\.self_attn\.q_proj\.weight is /.test(fault)));
  t.true(
    faults.some((fault) => /^model\.layers\.1\.mlp.* is there, but not in the model$/.test(fault)),
    faults.join('\n'),
  );
});

test('what the weights lack is refused, or begins anew when that is asked for', async (t) => {
  const more = { controls: [{ kind: 'attention-sink' }] };
  await t.throwsAsync(begin(more), { code: 'SLUICE_E_WEIGHTS_MISMATCH', message: /is not there/ });
  const { initialized } = (await begin(more, 'initialize'))!;
  t.true(initialized.length > 0 && initialized.every((name) => name.includes('sink')), initialized.join());
  // Other shapes and what nobody asked for are refused all the same.
  await t.throwsAsync(begin({ ...more, gates: [] }, 'initialize'), { message: /q_proj\.weight is \[/ });
});

test('the path is relative to the configuration file, and a model that is left out is that of the weights', async (t) => {
  const directory = temporaryDirectory(t);
  mkdirSync(join(directory, 'configs'));
  await importHuggingFace(SOURCE, join(directory, 'checkpoint'));
  const path = join(directory, 'configs', 'run.yaml');
  const { model: _, parallel: __, ...rest } = SMALL_CONFIG;
  writeFileSync(path, stringify({ ...rest, parallel: { lanes: 2 }, initialize: { from: '../checkpoint' } }));
  const set = ['model.ropeTheta=5e5'];
  const { model, initialize } = await loadNewRunConfig(path, { set, fromMissing: 'initialize' }, quiet);
  t.deepEqual(initialize, { from: join(directory, 'checkpoint'), missing: 'initialize', optimizer: 'fresh' });
  t.deepEqual(model, { ...(await modelOfWeights(SOURCE)), ropeTheta: 5e5 });
  // A flag's path is relative to the working directory.
  const { initialize: named } = await loadNewRunConfig(path, { from: SOURCE }, quiet);
  t.is(named.from, SOURCE);
  await t.throwsAsync(loadNewRunConfig(path, { from: directory }, quiet), { code: 'SLUICE_E_RUN_MISSING' });
});

test('a run whose model is that of its weights is planned and counted, with changes', async (t) => {
  const path = join(temporaryDirectory(t), 'run.yaml');
  const { model, ...rest } = SMALL_CONFIG;
  const parallel = { lanes: 2 };
  writeFileSync(path, stringify({ ...rest, parallel, initialize: { from: SOURCE } }));
  const set = await withModelOfWeights(path, ['model.ropeTheta=5e5'], quiet);
  const { model: own } = loadModel(path, { set });
  t.is(own.hiddenSize, (await modelOfWeights(SOURCE)).hiddenSize);
  t.is(own.ropeTheta, 5e5);
  t.true((planModel(path, { device: 'h100', set }).json.memoryBytes as number) > 0);
  writeFileSync(path, stringify({ ...SMALL_CONFIG, initialize: { from: SOURCE } }));
  t.deepEqual(await withModelOfWeights(path, ['seed=2'], quiet), ['seed=2']);
});

test('a gate is put into weights without one by a matrix of its own, which the refusal of another names', async (t) => {
  const from = fixture('gated-none');
  const gated = (gate: object) => begin({ gates: [gate] }, 'initialize', from);
  const error = await t.throwsAsync(gated({ granularity: 'elementwise' }), {
    code: 'SLUICE_E_WEIGHTS_MISMATCH',
  });
  t.regex(
    error?.message ?? '',
    /q_proj\.weight is \[.*give it a matrix of its own, by initialWeights: zeros/,
  );
  const begun = (await gated({ granularity: 'elementwise', initialWeights: 'zeros' }))!;
  t.true(begun.initialized.length > 0);
  for (const name of begun.initialized) t.regex(name, /self_attn\.sdpa_gate\.weight$/);
});

test('what is done about missing tensors is not taken where there are no weights to begin with', async (t) => {
  const path = join(temporaryDirectory(t), 'run.yaml');
  writeFileSync(path, stringify(SMALL_CONFIG));
  await t.throwsAsync(loadNewRunConfig(path, { fromMissing: 'initialize' }, quiet), {
    code: 'SLUICE_E_USAGE',
    message: /--from-missing is initialize, but/,
  });
});

test.serial(
  'a tokenizer that is not the one of the weights any more is refused; one that is gone is told',
  async (t) => {
    const { run, config, save } = await makeSavedRun(t);
    const { path: from } = await save(4);
    const { directory } = await prepareDataset(config.data.recipe!, quiet);
    const log: string[] = [];
    const check = () =>
      checkInitialTokenizer(
        { initialize: { from, missing: 'refuse', optimizer: 'fresh' } },
        directory,
        (line) => log.push(line),
      );
    await check();
    t.deepEqual(log, []);
    appendFileSync(join(run.tokenizer, 'tokenizer.json'), ' ');
    await t.throwsAsync(check(), { code: 'SLUICE_E_TOKENIZER_CHANGED' });
    rmSync(run.tokenizer, { recursive: true });
    await check();
    t.regex(log.join(), /the tokenizer of .*step-00000004 is not there/);
  },
);

test.serial('a run of another run’s weights takes its newest checkpoint, not what it will be', async (t) => {
  const { run, config, save } = await makeSavedRun(t);
  await save(2);
  const { path } = await save(4);
  const file = join(temporaryDirectory(t), 'run.yaml');
  writeFileSync(file, stringify(config));
  const { initialize } = await loadNewRunConfig(file, { from: run.path }, quiet);
  t.is(initialize.from, path);
});

test.serial('a run that starts again refuses weights that are not those it began with', async (t) => {
  const { run, config, save } = await makeSavedRun(t);
  const { path, weights } = await save(2);
  const directory = temporaryDirectory(t);
  const again = runDirectory(directory);
  await freezeRunConfig(
    again.config,
    RunConfig.parse({ ...config, initialize: { from: path, missing: 'refuse' } }),
  );
  const journal = openJournal(again.journal);
  t.teardown(() => journal.close());
  journal.append('start', 0, {
    configHash: '',
    datasetHash: readJournal(run.journal).find((entry) => entry.kind === 'start')!.datasetHash,
    workers: 2,
    expertParallel: 2,
    from: { path, weights: 'f'.repeat(64), changes: [], initialized: [] },
  });
  const { message } = (await t.throwsAsync(resumeRun({ run: directory }, quiet), {
    code: 'SLUICE_E_WEIGHTS_CHANGED',
  })) as SluiceError;
  t.true(message.includes(weights) && message.includes('f'.repeat(64)));
});
