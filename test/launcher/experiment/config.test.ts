import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sha256 } from '@sluice/core';
import type { RunConfig } from '@sluice/train';
import test from 'ava';
import { Cells, resolveRow } from '../../../launcher/src/experiment/cells.ts';
import { baselineOf, loadExperiment } from '../../../launcher/src/experiment/config.ts';
import type { HopelessRule } from '../../../launcher/src/experiment/hopeless.ts';

const directory = mkdtempSync(join(tmpdir(), 'sluice-experiment-'));
test.after.always(() => rmSync(directory, { recursive: true }));

const write = (name: string, text: string) => {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
};

const RUN = `model: { vocabularySize: 64, hiddenSize: 16, numLayers: 1, numAttentionHeads: 2, numKeyValueHeads: 2, headDim: 8, intermediateSize: 16 }
data: { recipe: recipe.yaml, sequenceLength: 16 }
parallel: { lanes: 2 }
batch: { sequences: 4 }
training: { steps: 4 }
optimizer: { learningRate: 1.0e-3 }
`;
write('run.yaml', RUN);
write('recipe.yaml', 'name: none\n');
const twoRows = `title: two
base: run.yaml
rows:
  - { name: one, method: "one" }
  - { name: two, method: "two", set: [optimizer.weightDecay=0], from: one }
`;

test('a grid makes rows of all combinations, compared with and beginning with rows of the same point', (t) => {
  const path = write(
    'grid.yaml',
    `${twoRows}grid: { optimizer.learningRate: [0.001, 0.002], optimizer.clipNorm: [5, 6, 7] }\n`,
  );
  const experiment = loadExperiment(path);
  t.is(experiment.rows.length, 12);
  const row = experiment.rows.find(({ name }) => name === 'two-learningRate-0.002-clipNorm-6')!;
  t.deepEqual(row.set, ['optimizer.weightDecay=0', 'optimizer.learningRate=0.002', 'optimizer.clipNorm=6']);
  t.is(row.from, 'one-learningRate-0.002-clipNorm-6');
  t.is(baselineOf(experiment, row).name, 'one-learningRate-0.002-clipNorm-6');
});

test('a row that begins with one that does not stand before it is refused', (t) => {
  const path = write('backwards.yaml', twoRows.replace('name: one,', 'name: one, from: two,'));
  const error = t.throws(() => loadExperiment(path), { code: 'SLUICE_E_CONFIG_INVALID' });
  t.regex(error?.message ?? '', /rows\.0\.from: no row before this one is called two/);
});

/** As if each recipe had been prepared to what it says. */
const corporaOf = ({ data: { recipe } }: RunConfig) => ({
  datasetHash: sha256(readFileSync(recipe!)),
  unigramLoss: 3,
});

const keyOf = (file: string, row: string, seed = 1, changes: string[] = [], hopeless?: HopelessRule) => {
  const path = join(directory, file);
  const experiment = loadExperiment(path);
  const chosen = experiment.rows.find(({ name }) => name === row)!;
  const make = new Cells({
    rows: experiment.rows,
    configOf: (row) => resolveRow({ path, experiment, scale: 'full' }, row),
    corporaOf,
    retrieval: experiment.retrieval,
  });
  const probe = hopeless && { learningRate: 1e-3, hopeless };
  return make.make({ ...chosen, set: [...chosen.set, ...changes] }, seed, probe).key;
};

test('a run has the same key whatever it is called, wherever it lies and however it is spread', (t) => {
  write('a.yaml', twoRows);
  write('b.yaml', twoRows.replaceAll('one', 'uno').replace('title: two', 'title: dos'));
  t.is(keyOf('a.yaml', 'one'), keyOf('b.yaml', 'uno'));
  t.is(
    keyOf('a.yaml', 'one', 1, ['parallel.workers=2', 'parallel.threads=3', 'checkpoint.everySteps=7']),
    keyOf('a.yaml', 'one'),
  );
  t.is(keyOf('a.yaml', 'two'), keyOf('b.yaml', 'two'));
});

test('a run has another key with another seed, rate, recipe, question, or weights to begin with', (t) => {
  write('a.yaml', twoRows);
  write('c.yaml', twoRows.replace(', from: one', ''));
  write('asked.yaml', `${twoRows}retrieval: [{ name: near, task: niah, length: 64 }]\n`);
  write('other.yaml', 'name: other\n');
  const keys = [
    keyOf('a.yaml', 'one'),
    keyOf('a.yaml', 'one', 2),
    keyOf('a.yaml', 'one', 1, ['optimizer.learningRate=0.002']),
    keyOf('a.yaml', 'one', 1, ['data.recipe=other.yaml']),
    keyOf('a.yaml', 'one', 1, ['parallel.lanes=4']),
    keyOf('a.yaml', 'one', 1, [], { lossBound: 5, lastingSteps: 2, afterStep: 2 }),
    keyOf('a.yaml', 'two'),
    keyOf('c.yaml', 'two'),
    keyOf('asked.yaml', 'one'),
  ];
  t.is(new Set(keys).size, keys.length);
});

test('a row whose configuration is refused is named', (t) => {
  write('a.yaml', twoRows);
  const error = t.throws(() => keyOf('a.yaml', 'two', 1, ['batch.sequences=3']));
  t.regex(error?.message ?? '', /^Row (one|two) of .*a\.yaml: /);
});

test('seeds that a row or a grid sets, weights from elsewhere, and two rows or questions of one name are refused', (t) => {
  const refused = (name: string, text: string, code: string, message: RegExp) => {
    write(name, text);
    const error = t.throws(() => keyOf(name, 'two'), { code });
    t.regex(error?.message ?? '', message);
  };
  const invalid = 'SLUICE_E_CONFIG_INVALID';
  refused('seed.yaml', `${twoRows}grid: { seed: [1, 2] }\n`, invalid, /no row sets its own/);
  refused('set.yaml', twoRows.replace('optimizer.weightDecay=0', 'seed=3'), invalid, /no row sets its own/);
  refused(
    'equal.yaml',
    `${twoRows}grid: { optimizer.clipNorm: [1, 1] }\n`,
    invalid,
    /rows of one name, one-clipNorm-1/,
  );
  const asked = '{ name: near, task: niah, length: 64 }';
  refused(
    'asked-twice.yaml',
    `${twoRows}retrieval: [${asked}, ${asked}]\n`,
    invalid,
    /a second question near/,
  );
  const from = twoRows.replace('optimizer.weightDecay=0', 'initialize.from=weights');
  refused('from.yaml', from, 'SLUICE_E_USAGE', /initialize\.from.*which it names by `from`/);
  const error = t.throws(() => loadExperiment(join(directory, 'run.yaml')), { code: 'SLUICE_E_USAGE' });
  t.regex(error?.message ?? '', /is the configuration of a run/);
});
