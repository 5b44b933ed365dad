import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { exportMetrics } from '../../launcher/src/run/exportMetrics.ts';
import { failureOf } from '../support/failureOf.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

test('two tables are not written to one file', async (t) => {
  const run = temporaryDirectory(t);
  writeFileSync(join(run, 'config.yaml'), '');
  const [csv, parquet] = [join(run, 'table'), `${run}/./table`];
  const { code, message } = await failureOf(exportMetrics(run, { csv, parquet }, () => {}));
  t.is(code, 'SLUICE_E_USAGE');
  t.regex(message, /--csv and --parquet are both .*table/);
});
