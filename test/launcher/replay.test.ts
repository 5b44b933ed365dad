/** What can be said of a step that is to be computed again before anything is computed. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MetricsLog } from '@sluice/observe';
import test from 'ava';
import { stringify } from 'yaml';
import { replayStep } from '../../launcher/src/coordinator/replay.ts';
import { record } from '../observe/support.ts';
import { failureOf } from '../support/failureOf.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { smallConfig } from './support/config.ts';

test('a step is not computed again across a change of what it depends on, which is named', async (t) => {
  const run = temporaryDirectory(t);
  const config = smallConfig({ training: { steps: 30 } });
  const { learningRate } = config.optimizer;
  writeFileSync(join(run, 'config.yaml'), stringify({ ...config, optimizer: { learningRate: 2 } }));
  const changes = [
    { key: 'optimizer.learningRate', saved: learningRate, now: 2, allowed: true },
    { key: 'parallel.workers', saved: 2, now: 1, allowed: false },
  ];
  const resumed = { kind: 'resume', step: 10, time: '', workers: 1, expertParallel: 1, changes };
  writeFileSync(join(run, 'journal.jsonl'), `${JSON.stringify({ ...resumed, refusedCheckpoints: [] })}\n`);
  const log = MetricsLog.open(join(run, 'metrics.jsonl'));
  for (let step = 1; step <= 5; step++) log.append(record(step));
  log.close();
  const failure = await failureOf(replayStep({ run, step: 11 }, () => {}));
  t.is(failure.code, 'SLUICE_E_USAGE');
  t.regex(failure.message, /--step is 11, but optimizer\.learningRate was changed between step 1,/);
  // Before the change it is looked for among the steps that were taken.
  t.notRegex((await failureOf(replayStep({ run, step: 10 }, () => {}))).message, /was changed/);
});
