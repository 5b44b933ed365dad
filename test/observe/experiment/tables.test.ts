import { readdirSync, readFileSync } from 'node:fs';
import { type ExperimentResults, experimentTable, findLrTable, writeTable } from '@sluice/observe';
import test from 'ava';
import { parse } from 'csv-parse/sync';
import fc from 'fast-check';
import { parquetReadObjects } from 'hyparquet';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';
import { anyFindLrResults, findLrResults } from './support/findLr.ts';
import { anyResults, diverged, results, row, run } from './support/results.ts';

const bufferOf = (bytes: Uint8Array) => bytes.slice().buffer as ArrayBuffer;
const parquetRows = (bytes: Uint8Array) => parquetReadObjects({ file: bufferOf(bytes) });
const csvRows = (text: string) => parse(text, { columns: true, bom: false }) as Record<string, string>[];

test('a line of the table has what a run was, what came of it, and its hashes', async (t) => {
  const rows = [row('baseline'), row('gate', { method: 'a gate, "elementwise"' })];
  const seeds = [7, 8];
  const changes = { validationLoss: 4, learningRate: 1e-3, arithmetic: 'cuda-2-f32' };
  const runs = [run('gate', 7, changes), diverged('gate', 8, 33)];
  const table = experimentTable(results({ rows, seeds, runs }));
  const [finished, broken] = csvRows(table.csv());
  t.like(finished, {
    ...{
      experiment: 'table9',
      row: 'gate',
      method: 'a gate, "elementwise"',
      baseline: 'baseline',
      seed: '7',
    },
    ...{ learningRate: '0.001', outcome: 'finished', validationLoss: '4', perplexity: '54.598150033144236' },
    ...{ massiveActivation: '60', gateScoreMean: '', parametersAdded: '65536', errorCode: '' },
    ...{ configHash: runs[0]!.configHash, weightsHash: runs[0]!.weightsHash!, arithmetic: 'cuda-2-f32' },
  });
  t.like(broken, {
    ...{ outcome: 'diverged', step: '33', steps: '400', validationLoss: '', weightsHash: '', arithmetic: '' },
    ...{ errorCode: 'SLUICE_E_DIVERGED', reason: 'the loss became NaN at step 33' },
  });
  const [first] = await parquetRows(table.parquet());
  t.like(first, { seed: 7n, validationLoss: 4, gateScoreMean: null, parametersAdded: 65_536n });
});

test('each question that was asked has columns, empty where a run did not come to it', (t) => {
  const scores = { accuracy: 0.5, recall: 0.5, choiceAccuracy: 0.75, answerLoss: 1.25 };
  const runs = [run('baseline', 7, { retrieval: { near: scores } }), diverged('baseline', 8, 33)];
  const lines = csvRows(experimentTable(results({ rows: [row('baseline')], seeds: [7, 8], runs })).csv());
  const columns = (line: Record<string, string>) =>
    ['accuracy', 'choiceAccuracy', 'answerLoss'].map((score) => line[`near.${score}`]);
  t.deepEqual(lines.map(columns), [
    ['0.5', '0.75', '1.25'],
    ['', '', ''],
  ]);
});

test('of any results, CSV and Parquet tell the same, and the same bytes each time', async (t) => {
  const reals = new Set([
    ...[
      'learningRate',
      'trainLoss',
      'validationLoss',
      'perplexity',
      'firstTokenAttention',
      'massiveActivation',
    ],
    'gateScoreMean',
    'feedForwardActivation',
    'gateBelowTenth',
    'largestAttentionLogit',
  ]);
  const agree = fc.asyncProperty(anyResults, async (made: ExperimentResults) => {
    const [table, again] = [experimentTable(made), experimentTable(structuredClone(made))];
    const bytes = table.parquet();
    if (table.csv() !== again.csv() || Buffer.compare(bytes, again.parquet()) !== 0) return false;
    const lines = csvRows(table.csv());
    const records = made.runs.length === 0 ? [] : await parquetRows(bytes);
    const same = records.every((record, i) =>
      Object.entries(record).every(([name, value]) => {
        const text = lines[i]![name]!;
        if (value === null) return text === '';
        return reals.has(name) ? Number(text) === value : text === String(value);
      }),
    );
    return same && lines.length === made.runs.length && records.length === lines.length;
  });
  await t.notThrowsAsync(() => fc.assert(agree));
});

test('a search for the largest stable rate is a table of all rates that were tried', async (t) => {
  const lines = csvRows(findLrTable(findLrResults()).csv());
  t.is(lines.length, 2 * 3 * 5);
  t.like(lines[2], {
    ...{
      variant: 'baseline',
      seed: '1',
      learningRate: '0.004',
      outcome: 'unstable',
      spikesPerThousand: '25',
    },
    ...{ largestStable: '0.002', smallestUnstable: '0.004', validationLoss: '' },
  });
  const counted = fc.property(anyFindLrResults, (made) => {
    const probes = made.variants.flatMap(({ seeds }) => seeds.flatMap((each) => each.probes));
    return csvRows(findLrTable(made).csv()).length === probes.length;
  });
  t.notThrows(() => fc.assert(counted));
});

test('both files are written whole', async (t) => {
  const directory = temporaryDirectory(t);
  const table = experimentTable(results());
  const paths = await writeTable(directory, 'results', table);
  t.deepEqual(readdirSync(directory).sort(), ['results.csv', 'results.parquet']);
  t.is(readFileSync(paths[0]!, 'utf8'), table.csv());
  t.deepEqual(readFileSync(paths[1]!), Buffer.from(table.parquet()));
});
