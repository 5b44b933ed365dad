import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { examineRuns } from '../../../launcher/src/doctor/runs.ts';
import { openJournal } from '../../../launcher/src/run/journal.ts';
import { acquireLock } from '../../../launcher/src/run/lock.ts';
import { runDirectory } from '../../../launcher/src/run/runDirectory.ts';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';

test('a run whose saves fail is something to mend while it goes on, and as long as they do', async (t) => {
  const folder = temporaryDirectory(t);
  t.like(await examineRuns(folder), { ok: true, values: { alive: 0 } });
  const run = runDirectory(join(folder, 'night'));
  mkdirSync(run.path);
  const lock = acquireLock(run.lock);
  const journal = openJournal(run.journal);
  t.teardown(() => journal.close());
  t.like(await examineRuns(folder), { ok: true, values: { alive: 1 } });
  journal.append('saveFailed', 40, { message: 'No space left.' });
  const finding = await examineRuns(folder);
  t.false(finding.ok);
  t.regex(finding.found, /night could not save step 40: No space left\./);
  journal.append('commit', 60, { path: 'checkpoints/step-00000060', weights: 'x' });
  t.true((await examineRuns(folder)).ok);
  journal.append('saveFailed', 80, { message: 'No space left.' });
  lock.release();
  t.like(await examineRuns(folder), { ok: true, values: { alive: 0 } });
});
