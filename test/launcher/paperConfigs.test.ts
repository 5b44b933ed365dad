import { readdirSync } from 'node:fs';
import { loadYamlConfig } from '@sluice/core';
import { countParameters, ModelConfig, SCALES } from '@sluice/model';
import test from 'ava';
import { baselineOf, experimentRun, loadExperiment } from '../../launcher/src/experiment/config.ts';
import { countModel } from '../../launcher/src/run/countModel.ts';

const MODELS = readdirSync('configs/models', { recursive: true, encoding: 'utf8' })
  // Those of other families are in familyConfigs.test.ts.
  .filter((name) => name.endsWith('.yaml') && /^(1\.7b|15b)/.test(name))
  .map((name) => `configs/models/${name}`)
  .sort();
const TABLES = [1, 2, 3, 4, 5, 6].map((number) => `configs/paper/table${number}.yaml`);
const ROWS_OF_THE_PAPER = [15, 14, 7, 7, 4, 6];

const totalOf = (path: string) => countParameters(loadYamlConfig(path, ModelConfig)).total;

test('the released models have exactly the parameters that were counted in them', (t) => {
  t.is(totalOf('configs/models/1.7b-28l.yaml'), 1_720_837_120);
  t.is(totalOf('configs/models/1.7b-28l/sdpa-headwise.yaml'), 1_721_754_624);
  t.is(totalOf('configs/models/1.7b-28l/sdpa-elementwise.yaml'), 1_728_177_152);
});

test('models that the paper matches have the same parameters to one percent', (t) => {
  for (const model of ['1.7b-28l', '1.7b-48l']) {
    const baseline = totalOf(`configs/models/${model}.yaml`);
    const gated = totalOf(`configs/models/${model}/sdpa-elementwise.yaml`);
    t.true(Math.abs(gated / baseline - 1) < 0.01, model);
  }
});

/** Rows whose count the paper gives differently from what its architecture has. */
const DISAGREEING = ['4-more-experts', /^switch-/];

/** A number as the paper prints it: whole, or with the digits that it has. */
function isRounded(exact: number, printed: number): boolean {
  const digits = String(printed).split('.')[1]?.length ?? 0;
  // 100.7 is printed as 100.
  return Math.abs(exact - printed) < 10 ** -digits;
}

test('each row adds the parameters that the paper says', (t) => {
  let compared = 0;
  for (const table of TABLES) {
    const experiment = loadExperiment(table);
    const count = (row: (typeof experiment.rows)[number]) =>
      countParameters(experimentRun(table, experiment, row).model).total;
    for (const row of experiment.rows) {
      if (row.addedMillions === undefined) continue;
      const added = (count(row) - count(baselineOf(experiment, row))) / 1e6;
      const agrees = isRounded(added, row.addedMillions);
      const isExpected = !DISAGREEING.some((name) => row.name.match(name));
      t.is(agrees, isExpected, `${table} ${row.name}: ${added}`);
      compared++;
    }
  }
  t.is(compared, 15 + 4 + 6 + 6);
});

test('the tables have the rows of the paper', (t) => {
  TABLES.forEach((table, index) => {
    const { rows, source } = loadExperiment(table);
    t.is(rows.length, ROWS_OF_THE_PAPER[index]!);
    t.regex(source ?? '', new RegExp(`Table ${index + 1}$`));
    for (const { name, paper } of rows) t.true(Object.keys(paper).length > 3, name);
  });
});

test('a scale keeps query heads for each key-value head, experts for each token, and the proportion of depths', (t) => {
  for (const path of MODELS) {
    const [full, ...scaled] = SCALES.map((scale) =>
      loadYamlConfig(path, ModelConfig, { overrides: [`scale=${scale}`] }),
    );
    const ratios = (model: ModelConfig) => [
      model.numAttentionHeads / model.numKeyValueHeads,
      (model.experts?.count ?? 1) / (model.experts?.topK ?? 1),
      (model.numAttentionHeads * model.headDim) / model.hiddenSize,
    ];
    for (const model of scaled) t.deepEqual(ratios(model), ratios(full!), path);
    t.deepEqual(
      scaled.map(({ numLayers }) => numLayers),
      [full!.numLayers, full!.numLayers / 4],
      path,
    );
    t.true(countParameters(scaled[1]!).total < 8e6, path);
    t.deepEqual(full!.gates, scaled[1]!.gates);
  }
});

test('every row has a run at every scale', (t) => {
  for (const table of TABLES) {
    const experiment = loadExperiment(table);
    for (const row of experiment.rows) {
      const [full, small, tiny] = SCALES.map((scale) => experimentRun(table, experiment, row, scale));
      t.true(tiny!.model.hiddenSize < small!.model.hiddenSize, row.name);
      t.true(small!.model.hiddenSize < full!.model.hiddenSize, row.name);
      t.true(tiny!.training.steps < full!.training.steps, row.name);
      t.is(tiny!.optimizer.learningRate, full!.optimizer.learningRate, row.name);
    }
  }
});

test('counting an experiment gives each row beside the paper’s number', (t) => {
  const { json, text } = countModel('configs/paper/table1.yaml');
  const rows = json.rows as { name: string; added: number; paperAddedMillions: number }[];
  t.like(rows[9], { name: 'sdpa-headwise', added: 24 * 2048 * 32, paperAddedMillions: 1.6 });
  t.regex(text, /SDPA headwise \(G1\) .*\+1,572,864 +1\.6 M/);
});

test('--set changes the model that is counted and not its baseline, and no experiment', (t) => {
  const quickstart = 'configs/quickstart.yaml';
  const { json } = countModel(quickstart, quickstart, { set: ['model.gate.granularity=none'] });
  t.true((json.added as number) < 0);
  t.throws(() => countModel('configs/paper/table1.yaml', undefined, { set: ['seed=2'] }), {
    code: 'SLUICE_E_USAGE',
    message: /table1\.yaml is an experiment/,
  });
});

test('counting a model against another at a scale counts both at that scale', (t) => {
  const { json } = countModel('configs/models/15b-a2b/sdpa-headwise.yaml', 'configs/models/15b-a2b.yaml', {
    scale: 'tiny',
  });
  t.is(json.added, 6 * 64 * 8);
});

test('an experiment with two rows of a name, or a baseline that is no row, is refused', (t) => {
  const error = t.throws(() => loadExperiment('test/launcher/support/wrongExperiment.yaml'), {
    code: 'SLUICE_E_CONFIG_INVALID',
  });
  t.regex(error?.message ?? '', /rows\.1\.name: a second row one/);
  t.regex(error?.message ?? '', /rows\.1\.baseline: no row is called two/);
});
