/** Metrics as a flat table. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readMetricsTable } from '@sluice/observe';
import test from 'ava';
import { parquetReadObjects } from 'hyparquet';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { record } from './support.ts';

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
  const lines = table.csv().trimEnd().split('\n');
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
  const bytes = table.parquet();
  const rows = await parquetReadObjects({ file: bytes.buffer as ArrayBuffer });
  t.is(rows.length, 3);
  t.is(rows[2]!['train/loss'], 2.5);
  t.is(rows[1]!.step, 2n);
  t.is(rows[0]!['validation/loss'] ?? null, null);
});
