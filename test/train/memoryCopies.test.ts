/** What a host's memory does not take is a coded failure, whichever part of it that is: the run can do without copies. */

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { memoryOf } from '@sluice/train';
import test from 'ava';
import { keepCopies } from '../../packages/train/src/memoryCopies.ts';
import { soloWorkers, type Workers } from '../../packages/train/src/workers.ts';

const memory = memoryOf(process.ppid);
test.beforeEach(() => rmSync(memory, { recursive: true, force: true }));
test.after.always(() => rmSync(memory, { recursive: true, force: true }));

/** One of two workers, of which the other sends 8 bytes. */
function firstOfTwo(): Workers {
  const done = { wait() {} };
  const world = {
    allReduce(sizes: Float64Array) {
      sizes[1] = 8;
      return done;
    },
    allToAll: () => done,
  };
  return { ...soloWorkers(), size: 2, world: world as unknown as Workers['world'] };
}

const keep = () => keepCopies(firstOfTwo(), [], { step: 4, copies: [1, 0], writer: 'w' });

test.serial('a memory that takes no folder', async (t) => {
  writeFileSync(memory, '');
  await t.throwsAsync(keep(), { code: 'SLUICE_E_FILE_UNWRITABLE' });
});

test.serial('a memory that takes a worker’s own part, and not that of another host', async (t) => {
  await t.notThrowsAsync(keep());
  const theirs = join(memory, 'step-4', 'shard-00001.w.safetensors');
  rmSync(theirs);
  mkdirSync(theirs);
  await t.throwsAsync(keep(), { code: 'SLUICE_E_FILE_UNWRITABLE' });
});
