import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkpointDirectory } from '@sluice/checkpoint';
import { SluiceError, writeError } from '@sluice/core';
import test from 'ava';
import { type CheckpointWriter, saveCheckpoint } from '../../launcher/src/coordinator/checkpoints.ts';
import { initialState } from '../../launcher/src/coordinator/state.ts';
import type { Workers } from '../../launcher/src/coordinator/workers.ts';
import { openJournal, readJournal } from '../../launcher/src/run/journal.ts';
import { runDirectory } from '../../launcher/src/run/runDirectory.ts';
import { smallDisk } from '../support/smallDisk.ts';
import { smallConfig } from './support/config.ts';

test('what is left of a save that filled the disk makes room for the next one', async (t) => {
  const disk = smallDisk(t);
  if (!disk) return t.pass('no file system can be mounted here');
  const run = runDirectory(join(disk.path, 'run'));
  mkdirSync(run.checkpoints, { recursive: true });
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
    tensors: [],
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
