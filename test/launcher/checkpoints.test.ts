import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkpointDirectory } from '@sluice/checkpoint';
import { SluiceError, writeError } from '@sluice/core';
import test from 'ava';
import {
  type CheckpointWriter,
  keptForGood,
  saveCheckpoint,
} from '../../launcher/src/coordinator/checkpoints.ts';
import { initialState } from '../../launcher/src/coordinator/state.ts';
import type { Workers } from '../../launcher/src/coordinator/workers.ts';
import { type JournalEntry, openJournal, readJournal } from '../../launcher/src/run/journal.ts';
import { runDirectory } from '../../launcher/src/run/runDirectory.ts';
import { smallDisk } from '../support/smallDisk.ts';
import { smallConfig } from './support/config.ts';
import { makeSavedRun, savingWorker } from './support/savedRun.ts';

test('what is left of a save that filled the disk makes room for the next one', async (t) => {
  const disk = smallDisk(t);
  if (!disk) return t.pass('no file system can be mounted here');
  const run = runDirectory(join(disk.path, 'run'));
  mkdirSync(run.checkpoints, { recursive: true });
  writeFileSync(run.config, '');
  const journal = openJournal(run.journal);
  t.teardown(() => journal.close());
  const seen: boolean[] = [];
  const first = checkpointDirectory(run.path, 1);
  /** Workers whose shards are larger than the disk. */
  const workers = {
    async call(method: string, { directory }: { directory: string }) {
      if (method === 'examine') return [{ probe: { loss: 1, arithmetic: 'fake' }, nonFinite: [] }];
      seen.push(existsSync(first));
      const shard = join(directory, 'shard-00000.safetensors');
      try {
        writeFileSync(shard, Buffer.alloc(2 << 20));
      } catch (error) {
        throw writeError(shard, error);
      }
    },
  } as unknown as Workers;
  const writer: CheckpointWriter = {
    run,
    config: smallConfig(),
    corpora: {} as CheckpointWriter['corpora'],
    tokenizer: { files: {} },
    tensors: () => [],
    workers,
    journal,
    assertOwned: () => {},
    warn: (text) => t.fail(text),
    remains: new Set(),
  };
  for (const step of [1, 2]) {
    const error = await t.throwsAsync(saveCheckpoint(writer, { ...initialState({}), step }), {
      instanceOf: SluiceError,
    });
    t.is((error as SluiceError).code, 'SLUICE_E_DISK_FULL');
  }
  // The second attempt came as far as the workers, and by then the first one's files were gone.
  t.deepEqual(seen, [true, false]);
  t.deepEqual(
    readJournal(run.journal).map(({ kind, step }) => [kind, step]),
    [
      ['save', 1],
      ['save', 2],
    ],
  );
});

const validated = (step: number, loss: number | string) =>
  ({ kind: 'evaluate', step, loss, tokens: 1 }) as unknown as JournalEntry;
const STEPS = new Set([2, 4, 6, 8, 10]);

test.serial('a save during which the run’s directory vanishes may be tried again', async (t) => {
  const { run, save } = await makeSavedRun(t);
  const away = `${run.path}.away`;
  const worker = savingWorker();
  const call = worker.call.bind(worker);
  for (const moment of ['examine', 'save'] as const) {
    worker.call = async (method, request) => {
      const answers = await call(method, request);
      if (method === moment) renameSync(run.path, away);
      return answers;
    };
    await t.throwsAsync(save(4, worker), { code: 'SLUICE_E_FILE_MISSING' });
    t.false(existsSync(run.path), 'nothing takes its place');
    renameSync(away, run.path);
  }
  worker.call = call;
  t.is((await save(4, worker)).path, checkpointDirectory(run.path, 4));
});

test('checkpoints of every so many steps are kept for good, and the best one', (t) => {
  const entries = [validated(2, 5), validated(4, 3), validated(5, 1), validated(6, 3), validated(8, 4)];
  t.deepEqual(keptForGood({ keepBest: false }, STEPS, entries), []);
  t.deepEqual(keptForGood({ keepEverySteps: 4, keepBest: false }, STEPS, entries), [4, 8]);
  // Step 5 was validated, but has no checkpoint; of two that are as good the earlier one stays.
  t.deepEqual(keptForGood({ keepBest: true }, STEPS, entries), [4]);
  t.deepEqual(keptForGood({ keepEverySteps: 6, keepBest: true }, STEPS, entries), [6, 4]);
});

test('of a step that was validated again the last loss counts, and none that is no number', (t) => {
  t.deepEqual(
    keptForGood({ keepBest: true }, STEPS, [validated(2, 5), validated(4, 3), validated(4, 6)]),
    [2],
  );
  t.deepEqual(keptForGood({ keepBest: true }, STEPS, [validated(2, 'NaN')]), []);
  t.deepEqual(keptForGood({ keepBest: true }, STEPS, []), []);
});
