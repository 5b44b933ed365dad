/** Metrics as a flat table. */

import { appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readMetricsTable } from '@sluice/observe';
import test from 'ava';
import { parquetMetadata, parquetReadObjects } from 'hyparquet';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { collect, record } from './support.ts';

async function fileOf(parts: AsyncIterable<Uint8Array>): Promise<ArrayBuffer> {
  return new Uint8Array(Buffer.concat(await collect(parts))).buffer;
}

test('a line for each step, with what was measured where it was; CSV and Parquet hold the same', async (t) => {
  const run = temporaryDirectory(t);
  const records = [
    record(1, { loss: 4 }),
    record(2, { loss: Number.NaN, groupNorms: { head: 2 } }),
    record(3, { loss: 2.5, validationLoss: 3 }),
  ];
  writeFileSync(join(run, 'metrics.jsonl'), records.map((one) => `${JSON.stringify(one)}\n`).join(''));
  const measured = { step: 2, firstTokenAttention: 0.25, gates: [], layers: [] };
  writeFileSync(join(run, 'diagnostics.jsonl'), `${JSON.stringify(measured)}\n`);
  const table = await readMetricsTable(run);
  t.is(table.rows, 3);
  const lines = (await collect(table.csvParts())).join('').trimEnd().split('\n');
  t.is(lines.length, 4);
  const at = (line: number, column: string) => lines[line]!.split(',')[table.columns.indexOf(column)];
  t.deepEqual(
    [1, 2, 3].map((line) => at(line, 'train/loss')),
    ['4', '', '2.5'],
  );
  t.deepEqual(
    [1, 2, 3].map((line) => at(line, 'gradient_norm/head')),
    ['', '2', ''],
  );
  t.deepEqual(
    [1, 2, 3].map((line) => at(line, 'model/first_token_attention')),
    ['', '0.25', ''],
  );
  const rows = await parquetReadObjects({ file: await fileOf(table.parquetParts()) });
  t.is(rows.length, 3);
  t.is(rows[2]!['train/loss'], 2.5);
  t.is(rows[1]!.step, 2n);
  t.is(rows[0]!['validation/loss'] ?? null, null);
});

test('of a long run a file is made in parts, of the steps that there were at first', async (t) => {
  const run = temporaryDirectory(t);
  const line = (step: number) => `{"step":${step},"loss":${step / 8}}\n`;
  const steps = 20_001;
  writeFileSync(join(run, 'metrics.jsonl'), Array.from({ length: steps }, (_, i) => line(i + 1)).join(''));
  const table = await readMetricsTable(run);
  appendFileSync(join(run, 'metrics.jsonl'), line(steps + 1));
  const texts = await collect(table.csvParts());
  t.is(texts.length, 3);
  t.is(texts.join('').trimEnd().split('\n').length, 1 + steps);
  const file = await fileOf(table.parquetParts());
  const { row_groups: groups } = parquetMetadata(file);
  t.deepEqual(
    groups.map(({ num_rows: rows }) => rows),
    [20_000n, 1n],
  );
  const rows = await parquetReadObjects({ file, columns: ['step', 'train/loss'], rowStart: 19_999 });
  t.deepEqual(
    [0, 1].map((at) => [rows[at]!.step, rows[at]!['train/loss']]),
    [20_000, 20_001].map((step) => [BigInt(step), step / 8]),
  );
});
