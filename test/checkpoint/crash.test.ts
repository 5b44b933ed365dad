import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  beginCheckpoint,
  checkpointDirectory,
  commitCheckpoint,
  newestValidCheckpoint,
  openCheckpoint,
  pruneCheckpoints,
  type ShardRecord,
  writeShard,
} from '@sluice/checkpoint';
import test, { type ExecutionContext } from 'ava';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { Crash, CrashingFiles, refusingAt } from './faultyFiles.ts';
import { holds, SMALL, save, shard, TWO_WORKERS } from './helpers.ts';

/** What each step is known to have been saved with: an old and a new content for the one that is saved again. */
const SEEDS: Readonly<Record<number, readonly number[]>> = { 1: [1], 2: [20, 21], 3: [3] };

/**
 * Saves step 2 again over an older step 2, as after a roll-back, then step 3, then prunes; the machine stops at
 * operation `limit`.
 * @returns how many operations there were, and the steps that were reported as saved
 */
async function saveUntilCrash(
  run: string,
  limit: number,
  failure?: () => Error,
): Promise<{ files: CrashingFiles; saved: number[] }> {
  await save(run, 1, { seed: 1 });
  await save(run, 2, { seed: 20 });
  const files = new CrashingFiles(limit, join(run, 'graveyard'), failure);
  const saved = [1];
  try {
    await save(run, 2, { seed: 21, files, sharding: { world: 1, cuts: [{ blocks: 1, owner: 0 }] } });
    saved.push(2);
    await save(run, 3, { seed: 3, files });
    saved.push(3);
    await pruneCheckpoints(run, 1, { files });
  } catch (error) {
    if (!(error instanceof Crash)) throw error;
  }
  return { files, saved };
}

/** Demands that what a crash has left is sound, and that the run can go on in the same directory. */
async function checkRemains(
  t: ExecutionContext,
  run: string,
  saved: readonly number[],
  when: string,
): Promise<void> {
  const { checkpoint, refused } = await newestValidCheckpoint(run);
  // Where there is a manifest, everything that it speaks of is there.
  const reasons = refused.flatMap(({ problems }) => problems.map(({ kind }) => kind));
  t.true(
    reasons.every((kind) => kind === 'incomplete'),
    `${reasons} ${when}`,
  );
  t.true(checkpoint!.step >= saved.at(-1)!, `${checkpoint?.step} after ${saved} ${when}`);
  const reader = await openCheckpoint(checkpoint!.directory, { verify: true });
  // Once a step has been reported as saved, only its new content will do.
  const seeds = SEEDS[checkpoint!.step]!;
  const matches: boolean[] = [];
  for (const seed of saved.includes(checkpoint!.step) ? seeds.slice(-1) : seeds) {
    matches.push(await holds(reader, SMALL, seed));
  }
  await reader.close();
  t.true(matches.includes(true), when);
  await save(run, 3, { seed: 4 });
  t.is((await newestValidCheckpoint(run)).checkpoint?.step, 3);
}

test('whatever operation a save stops at, the newest valid checkpoint is one that was saved, unchanged', async (t) => {
  const { files } = await saveUntilCrash(temporaryDirectory(t), Number.POSITIVE_INFINITY);
  t.true(files.operations > 30);
  for (let limit = 0; limit <= files.operations; limit++) {
    const run = temporaryDirectory(t);
    const { saved } = await saveUntilCrash(run, limit);
    await checkRemains(t, run, saved, `at operation ${limit}`);
    rmSync(run, { recursive: true });
  }
});

test('the same holds if the power is cut and takes away what was not forced to the disk', async (t) => {
  const { files } = await saveUntilCrash(temporaryDirectory(t), Number.POSITIVE_INFINITY);
  for (let limit = 0; limit <= files.operations; limit++) {
    // Most can go wrong in the moments when names have changed, but the directory is not yet on the disk.
    for (let seed = 0, seeds = 1; seed < seeds; seed++) {
      const run = temporaryDirectory(t);
      const crashed = await saveUntilCrash(run, limit);
      if (/^(rename manifest|unlink shard)/.test(crashed.files.last)) seeds = 8;
      crashed.files.cutPower(seed + 1000 * limit);
      await checkRemains(
        t,
        run,
        crashed.saved,
        `after ${crashed.files.last}, operation ${limit}, seed ${seed}`,
      );
      rmSync(run, { recursive: true });
    }
  }
});

test('what was reported as saved survives a power cut, be it the first checkpoint of a run', async (t) => {
  for (let seed = 0; seed < 20; seed++) {
    const run = temporaryDirectory(t);
    const files = new CrashingFiles(Number.POSITIVE_INFINITY, join(run, 'graveyard'));
    await save(run, 1, { files });
    files.cutPower(seed);
    t.is((await newestValidCheckpoint(run)).checkpoint?.step, 1);
  }
});

test('a disk that fills up at any write is a coded error, leaves nothing behind, and spares the checkpoint before', async (t) => {
  const run = temporaryDirectory(t);
  await save(run, 1);
  let failures = 0;
  for (let n = 0; ; n++) {
    try {
      await save(run, 2, { files: refusingAt(n, 'ENOSPC') });
      break;
    } catch (error) {
      failures++;
      t.is((error as { code?: string }).code, 'SLUICE_E_DISK_FULL');
    }
    const left = readdirSync(checkpointDirectory(run, 2));
    t.true(
      left.every((name) => /^shard-0000[01]\.safetensors$/.test(name)),
      left.join(),
    );
    t.is((await newestValidCheckpoint(run)).checkpoint?.step, 1);
  }
  t.true(failures >= 4);
  t.is((await newestValidCheckpoint(run)).checkpoint?.step, 2);
});

test('whatever operation a disk or a vanished directory fails, it is a coded error', async (t) => {
  const { files } = await saveUntilCrash(temporaryDirectory(t), Number.POSITIVE_INFINITY);
  for (const [code, coded] of [
    ['EIO', 'SLUICE_E_FILE_UNWRITABLE'],
    ['ENOENT', 'SLUICE_E_FILE_MISSING'],
  ] as const) {
    const failure = () => Object.assign(new Error(code), { code });
    for (let limit = 0; limit < files.operations; limit++) {
      const run = temporaryDirectory(t);
      const error = await saveUntilCrash(run, limit, failure).then(
        // What is to be removed may be gone.
        () => (code === 'ENOENT' ? { code: coded } : undefined),
        (error) => error,
      );
      t.is(error?.code, coded, `${code} at operation ${limit}`);
      rmSync(run, { recursive: true });
    }
  }
});

test('a directory that cannot be written to is a coded error', async (t) => {
  const run = temporaryDirectory(t);
  await t.throwsAsync(save(run, 1, { files: refusingAt(0, 'EACCES') }), { code: 'SLUICE_E_FILE_UNWRITABLE' });
  await t.throwsAsync(save(run, 1, { files: refusingAt(3, 'EROFS') }), { code: 'SLUICE_E_FILE_UNWRITABLE' });
  await t.throwsAsync(writeShard(join(run, 'no'), 0, []), { code: 'SLUICE_E_FILE_MISSING' });
  const blocked = join(run, 'blocked');
  mkdirSync(blocked);
  writeFileSync(join(blocked, 'checkpoints'), 'a file where a directory should be');
  await t.throwsAsync(beginCheckpoint(blocked, 1), { code: 'SLUICE_E_FILE_UNWRITABLE' });
  await t.throwsAsync(writeShard(join(blocked, 'checkpoints'), 0, []), { code: 'SLUICE_E_FILE_UNWRITABLE' });
});

test('a shard that the coordinator cannot see, or sees cut, is never committed', async (t) => {
  const run = temporaryDirectory(t);
  const directory = await beginCheckpoint(run, 1);
  const shards: ShardRecord[] = [];
  for (const [rank, pieces] of shard(SMALL, TWO_WORKERS, 1).entries()) {
    shards.push(await writeShard(directory, rank, pieces));
  }
  const common = { config: {}, configHash: '', state: {}, probe: {} };
  const commit = () => commitCheckpoint({ directory, step: 1, tensors: SMALL, shards, ...common });
  rmSync(join(directory, shards[1]!.file));
  await t.throwsAsync(commit(), {
    code: 'SLUICE_E_CHECKPOINT_INCOMPLETE',
    message: /shared by all machines/,
  });
  writeFileSync(join(directory, shards[1]!.file), 'short');
  await t.throwsAsync(commit(), { code: 'SLUICE_E_CHECKPOINT_INCOMPLETE', message: /has 5 bytes/ });
  t.deepEqual((await newestValidCheckpoint(run)).checkpoint, undefined);
});
