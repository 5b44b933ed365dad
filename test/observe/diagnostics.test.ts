import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from 'node:vm';
import { ModelConfig } from '@sluice/model';
import {
  appendDiagnostics,
  type DiagnosedModel,
  type DiagnosticsRecord,
  MetricsLog,
  readDiagnostics,
  writeDiagnosisPage,
  writeHtmlReport,
} from '@sluice/observe';
import { summarize, Tally } from '@sluice/train';
import test, { type ExecutionContext } from 'ava';
import { parseDiagnostics } from '../../packages/observe/src/diagnosticsLog.ts';
import { truncateRecordsAfter } from '../../packages/observe/src/recordLines.ts';
import { evenAttention, layerTable } from '../../packages/observe/src/report/diagnostics.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { record as stepRecord } from './support.ts';

const model = ModelConfig.parse({
  vocabularySize: 8,
  hiddenSize: 8,
  numLayers: 3,
  numAttentionHeads: 2,
  numKeyValueHeads: 1,
  headDim: 4,
  experts: { count: 4, topK: 2, intermediateSize: 8 },
});

/** Measurements of made-up counts, the larger the later the step. */
function measured(step: number): DiagnosticsRecord {
  const tally = new Tally(model);
  tally.values.forEach((_, i) => {
    tally.values[i] = 1 + ((i * 7) % 11) + step / 1000;
  });
  return { step, ...summarize(model, tally, { sequences: 2, sequenceLength: 16 }) };
}

async function recordsIn(path: string): Promise<DiagnosticsRecord[]> {
  const records: DiagnosticsRecord[] = [];
  for await (const record of readDiagnostics(path)) records.push(record);
  return records;
}

async function stepsIn(path: string): Promise<number[]> {
  return (await recordsIn(path)).map(({ step }) => step);
}

test('records come back with six digits, and what is not finite as null', async (t) => {
  const path = join(temporaryDirectory(t), 'diagnostics.jsonl');
  appendDiagnostics(path, { ...measured(1 / 3 + 1), step: 1, largestAttentionLogit: Number.NaN });
  const [read] = await recordsIn(path);
  const expected = measured(1 / 3 + 1);
  t.is(read!.largestAttentionLogit, null as unknown as number);
  t.true(Math.abs(read!.layers[2]!.attentionEntropy! / expected.layers[2]!.attentionEntropy! - 1) < 1e-5);
  t.true(readFileSync(path, 'utf8').length < 6 * 1024);
});

test('a torn last line is left out, and cut off with the steps that are taken back', async (t) => {
  const path = join(temporaryDirectory(t), 'diagnostics.jsonl');
  for (const step of [100, 200, 300]) appendDiagnostics(path, measured(step));
  const whole = readFileSync(path, 'utf8');
  for (let kept = whole.length - 1; kept > whole.length - 400; kept -= 37) {
    writeFileSync(path, whole.slice(0, kept));
    t.deepEqual(await stepsIn(path), [100, 200]);
    truncateRecordsAfter(path, 300, parseDiagnostics);
    t.deepEqual(await stepsIn(path), [100, 200]);
    appendDiagnostics(path, measured(300));
    t.is(readFileSync(path, 'utf8'), whole);
  }
  appendFileSync(path, 'null\n{"step":1}\n');
  t.deepEqual(await stepsIn(path), [100, 200, 300]);
  truncateRecordsAfter(path, 0, parseDiagnostics);
  t.is(readFileSync(path, 'utf8'), '');
});

test('a log that does not exist has no records, and nothing to take back', async (t) => {
  const path = join(temporaryDirectory(t), 'none.jsonl');
  t.deepEqual(await stepsIn(path), []);
  t.notThrows(() => truncateRecordsAfter(path, 3, parseDiagnostics));
  const unwritable = join(temporaryDirectory(t), 'no', 'such', 'folder');
  await t.throwsAsync(stepsIn(temporaryDirectory(t)), { code: 'SLUICE_E_FILE_MISSING' });
  t.throws(() => appendDiagnostics(unwritable, measured(1)), { code: 'SLUICE_E_FILE_MISSING' });
});

test('the report shows the run inside the model, and only where it was measured', async (t) => {
  const directory = temporaryDirectory(t);
  const metrics = MetricsLog.open(join(directory, 'metrics.jsonl'));
  for (let step = 1; step <= 4; step++) metrics.append(stepRecord(step));
  metrics.close();
  const without = readFileSync(await writeHtmlReport(directory), 'utf8');
  t.false(without.includes('Inside the model'));
  for (const step of [2, 4]) appendDiagnostics(join(directory, 'diagnostics.jsonl'), measured(step));
  const html = readFileSync(await writeHtmlReport(directory), 'utf8');
  t.true(html.includes('Inside the model'));
  t.true(html.includes('after step 4, on 2 held-out sequences of 16 tokens'));
  const data = JSON.parse(/id="report-data">(.*?)<\/script>/s.exec(html)![1]!);
  for (const id of [
    'first-token-attention',
    'massive-activation',
    'gate-score',
    'hidden-sparsity',
    'hidden-mean',
    'router',
  ]) {
    const chart = data.charts.find((chart: { id: string }) => chart.id === id);
    t.deepEqual(chart.steps, [2, 4], id);
    t.true(html.includes(`data-chart="${id}"`), id);
  }
  // No update was measured.
  t.false(html.includes('data-chart="update-ratio"'));
});

test('the table of layers has the columns that have anything', (t) => {
  const { headings, rows } = layerTable(measured(1).layers);
  t.true(headings.includes('Dead experts'));
  t.false(headings.includes('Update'));
  t.is(rows.length, 3);
  t.true(rows.every((row) => row.length === headings.length));
});

test('even attention is the mean of 1/(i + 1) without query 0', (t) => {
  t.is(evenAttention(2), 1 / 2);
  t.is(evenAttention(3), (1 / 2 + 1 / 3) / 2);
});

function diagnosed(name: string): DiagnosedModel {
  const map = {
    tokens: 4,
    cells: 2,
    weights: Float32Array.of(1, 0, 0.25, 0.75),
    firstToken: Float32Array.of(1, 0.04),
  };
  const { step, ...diagnosis } = measured(5);
  return {
    name,
    diagnosis: {
      ...diagnosis,
      maps: [
        { layer: 1, head: null, ...map },
        { layer: 1, head: 1, ...map },
      ],
    },
  };
}

/** The page of these models. */
async function pageOf(t: ExecutionContext, models: readonly DiagnosedModel[]): Promise<string> {
  const path = join(temporaryDirectory(t), 'page.html');
  await writeDiagnosisPage(path, models);
  return readFileSync(path, 'utf8');
}

/** Vertical places of the points of the first line in a panel. */
function heights(html: string, title: string): number[] {
  const [, panel] = html.split(`<h2>${title}</h2>`);
  const [, points] = /<polyline points="([^"]*)"/.exec(panel!)!;
  return points!.split(' ').map((point) => Number(point.split(',')[1]));
}

test('the page shows models side by side in one file that loads nothing', async (t) => {
  const html = await pageOf(t, [diagnosed('plain'), diagnosed('<script>alert("x")</script>')]);
  t.false(html.includes('alert("x")</script>'));
  t.true(html.includes('&lt;script&gt;alert'));
  t.notRegex(html, /(src|href)="/);
  for (const heading of [
    'Overall',
    'Attention to the first token',
    'Massive activations',
    'Expert imbalance',
  ])
    t.true(html.includes(`<h2>${heading}</h2>`), heading);
  t.is(html.match(/Scores of the gate/g)!.length, 2);
  // Nine plots, two of which compare; and even attention.
  t.is(html.match(/<polyline/g)!.length, 2 * (9 + 2) + 1);
  t.false(html.includes('Size of the last update'));
  const maps = JSON.parse(/id="diagnosis-data">(.*?)<\/script>/s.exec(html)![1]!);
  t.is(maps.length, 4);
  t.like(maps[0], { id: 'map-0-0', cells: 2, perCell: 2 });
  t.deepEqual([...Buffer.from(maps[0].weights, 'base64')], [255, 0, 128, 221]);
  t.deepEqual([...Buffer.from(maps[0].firstToken, 'base64')], [255, 51]);
  for (const { id } of maps) t.true(html.includes(`<canvas id="${id}"`));
  const script = /<script type="module">(.*?)<\/script>/s.exec(html)![1]!;
  t.notThrows(() => new Script(script.replace(/^export \{\};$/m, '')));
});

test('the page names what computed each model, where that is known', async (t) => {
  const computedBy = { backend: 'cuda', precision: 'bf16', arithmetic: 'cuda-sm90-bf16' } as const;
  const html = await pageOf(t, [{ ...diagnosed('known'), computedBy }, diagnosed('unknown')]);
  t.regex(html, /Computed by<\/td><td[^>]*>cuda in bf16 \(cuda-sm90-bf16\)<\/td><td[^>]*><\/td>/);
  t.false((await pageOf(t, [diagnosed('unknown')])).includes('Computed by'));
});

test('the size of an update is shown where it is known, and why it is not where it is not', async (t) => {
  const [known, unknown] = [diagnosed('trained'), diagnosed('imported')];
  const { layers } = known.diagnosis;
  const html = await pageOf(t, [
    {
      ...known,
      diagnosis: {
        ...known.diagnosis,
        updateRatio: 0.0125,
        layers: layers.map((layer) => ({ ...layer, updateRatio: 0.01 * (1 + layer.layer) })),
      },
    },
    { ...unknown, diagnosis: { ...unknown.diagnosis, noUpdateRatio: 'it has no moments' } },
  ]);
  t.true(html.includes('Size of the last update relative to the weights</td><td class="number">0.0125</td>'));
  t.true(html.includes('No size of an update of imported: it has no moments.'));
  t.is(heights(html, 'Size of the last update').length, 3);
  // Too near each other for powers of ten.
  t.regex(html.split('<h2>Size of the last update</h2>')[1]!, />0.01<.*>0.02<.*>0.03</s);
});

test('the ticks of small numbers say what they are', async (t) => {
  const model = diagnosed('slow');
  const layers = model.diagnosis.layers.map((layer) => ({ ...layer, updateRatio: 1.9e-4 }));
  const html = await pageOf(t, [{ ...model, diagnosis: { ...model.diagnosis, layers } }]);
  const [, panel] = html.split('<h2>Size of the last update</h2>');
  for (const tick of ['0', '5e-5', '1e-4', '1.5e-4', '2e-4'])
    t.true(panel!.includes(`>${tick}</text>`), tick);
});

test('means below zero lie below zero', async (t) => {
  const model = diagnosed('additive');
  const scores = [-0.5, 0, 0.5];
  const layers = model.diagnosis.layers.map((layer, i) => ({ ...layer, gateScoreMean: scores[i]! }));
  const [low, zero, high] = heights(
    await pageOf(t, [{ ...model, diagnosis: { ...model.diagnosis, layers } }]),
    'Gate scores',
  );
  t.true(Math.abs(low! - zero! - (zero! - high!)) < 0.02 && low! > zero! && zero! > high!);
});

test('each length of sequences has its own even attention, in a colour that no model has', async (t) => {
  const lengths = [16, 16, 32, 16, 16, 16];
  const html = await pageOf(
    t,
    lengths.map((sequenceLength, i) => {
      const { name, diagnosis } = diagnosed(`m${i}`);
      return { name, diagnosis: { ...diagnosis, sequenceLength } };
    }),
  );
  t.is(html.match(/class="series-reference dashed"/g)!.length, 2);
  t.true(html.includes(`spread evenly over 32 tokens, layer 0: ${evenAttention(32).toPrecision(3)}`));
  t.false(html.includes('swatch series-reference'));
});

test('a model of one layer, and values that are not finite, can be drawn', async (t) => {
  const { diagnosis } = diagnosed('one');
  const [first] = diagnosis.layers;
  const broken = { ...first!, massiveActivation: Number.NaN, firstTokenAttention: Number.NaN };
  const html = await pageOf(t, [{ name: 'one', diagnosis: { ...diagnosis, layers: [broken], maps: [] } }]);
  t.false(html.includes('NaN'));
  t.false(html.includes('Attention maps'));
});
