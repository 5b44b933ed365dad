import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  beginCheckpoint,
  checkpointDirectory,
  commitCheckpoint,
  listCheckpoints,
  newestValidCheckpoint,
  pruneCheckpoints,
  removeCheckpoint,
  writeShard,
} from '@sluice/checkpoint';
import test from 'ava';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { SMALL, save, shard, TWO_WORKERS } from './helpers.ts';

/** Writes shards without a manifest, as a save that died does. */
async function saveHalf(run: string, step: number): Promise<void> {
  const directory = await beginCheckpoint(run, step);
  await writeShard(directory, 0, shard(SMALL, TWO_WORKERS, step)[0]!);
}

const WHOLE = ['manifest.json', 'shard-00000.safetensors', 'shard-00001.safetensors'];

const steps = async (run: string) => (await listCheckpoints(run)).map(({ step }) => step);

test('checkpoints are listed in order of steps, whole or not, and nothing else is', async (t) => {
  const run = temporaryDirectory(t);
  t.deepEqual(await listCheckpoints(run), []);
  for (const step of [100, 20, 123_456_789]) await save(run, step);
  await saveHalf(run, 50);
  mkdirSync(join(run, 'checkpoints', 'step-notes'));
  mkdirSync(join(run, 'checkpoints', 'step-00000070'));
  writeFileSync(join(run, 'checkpoints', 'step-00000070', 'mine.txt'), '');
  t.deepEqual(
    (await listCheckpoints(run)).map(({ step, complete }) => [step, complete]),
    [
      [20, true],
      [50, false],
      [100, true],
      [123_456_789, true],
    ],
  );
  t.is(checkpointDirectory(run, 1200), join(run, 'checkpoints', 'step-00001200'));
});

test('the newest are kept, the protected stay, and old half-written and damaged ones are swept', async (t) => {
  const run = temporaryDirectory(t);
  for (const step of [1, 2, 3, 5, 6]) await save(run, step);
  await saveHalf(run, 4);
  await saveHalf(run, 7);
  rmSync(join(checkpointDirectory(run, 2), 'shard-00001.safetensors'));
  const { removed } = await pruneCheckpoints(run, 2, { protect: [1] });
  t.deepEqual(
    removed,
    [2, 3, 4].map((step) => checkpointDirectory(run, step)),
  );
  t.deepEqual(await steps(run), [1, 5, 6, 7]);
  t.deepEqual((await pruneCheckpoints(run, 2, { protect: [1] })).removed, []);
});

test('a damaged checkpoint does not count as one that is kept', async (t) => {
  const run = temporaryDirectory(t);
  for (const step of [1, 2, 3]) await save(run, step);
  rmSync(join(checkpointDirectory(run, 3), 'shard-00000.safetensors'));
  await pruneCheckpoints(run, 1);
  t.deepEqual(await steps(run), [2, 3]);
  t.is((await newestValidCheckpoint(run)).checkpoint?.step, 2);
});

test('what was just saved stays, whatever lies there from a later step', async (t) => {
  const run = temporaryDirectory(t);
  for (const step of [1, 2, 8, 9]) await save(run, step);
  await pruneCheckpoints(run, 1, { upTo: 2 });
  t.deepEqual(await steps(run), [2, 8, 9]);
});

test('a distrusted checkpoint is passed over, keeps no other from staying, and goes with the older ones', async (t) => {
  const run = temporaryDirectory(t);
  for (const step of [1, 2, 3]) await save(run, step);
  const distrust = new Map([[3, 'no update']]);
  const { checkpoint, refused } = await newestValidCheckpoint(run, { distrust });
  t.is(checkpoint?.step, 2);
  t.like(refused[0], { step: 3, problems: [{ kind: 'distrusted', message: 'no update' }] });
  await pruneCheckpoints(run, 2, { distrust });
  t.deepEqual(await steps(run), [1, 2, 3]);
  for (const step of [4, 5]) await save(run, step);
  await pruneCheckpoints(run, 2, { distrust });
  t.deepEqual(await steps(run), [4, 5]);
});

test('with no whole checkpoint, nothing is removed', async (t) => {
  const run = temporaryDirectory(t);
  await saveHalf(run, 1);
  await saveHalf(run, 2);
  t.deepEqual((await pruneCheckpoints(run, 1)).removed, []);
  t.deepEqual(await steps(run), [1, 2]);
  const { checkpoint, refused } = await newestValidCheckpoint(run);
  t.is(checkpoint, undefined);
  t.deepEqual(
    refused.map(({ step, problems }) => [step, problems[0]!.kind]),
    [
      [2, 'incomplete'],
      [1, 'incomplete'],
    ],
  );
});

test('files that saving did not write are never removed', async (t) => {
  const run = temporaryDirectory(t);
  for (const step of [1, 2]) await save(run, step);
  writeFileSync(join(checkpointDirectory(run, 1), 'notes.txt'), 'mine');
  await pruneCheckpoints(run, 1);
  t.deepEqual(readdirSync(checkpointDirectory(run, 1)), ['notes.txt']);
  t.deepEqual(await steps(run), [2]);
  await removeCheckpoint(checkpointDirectory(run, 2));
  t.deepEqual(await steps(run), []);
});

test('saving a step again leaves no shard of the earlier, wider save', async (t) => {
  const run = temporaryDirectory(t);
  const wide = { world: 4, cuts: [0, 1, 2, 3].map((owner) => ({ blocks: 1, owner })) };
  await save(run, 1, { sharding: wide });
  t.is(readdirSync(checkpointDirectory(run, 1)).length, 5);
  await save(run, 1, { seed: 5 });
  t.deepEqual(readdirSync(checkpointDirectory(run, 1)).sort(), WHOLE);
});

test('what a writer that died during the save has left is not in the checkpoint', async (t) => {
  const run = temporaryDirectory(t);
  const directory = await beginCheckpoint(run, 1);
  for (const name of ['.writing-shard-00001.safetensors-7-ab', 'shard-00009.safetensors']) {
    writeFileSync(join(directory, name), 'left');
  }
  const shards = [];
  for (const [rank, pieces] of shard(SMALL, TWO_WORKERS, 1).entries()) {
    shards.push(await writeShard(directory, rank, pieces));
  }
  const common = { config: {}, configHash: '', state: {}, probe: {} };
  await commitCheckpoint({ directory, step: 1, tensors: SMALL, shards, ...common });
  t.deepEqual(readdirSync(directory).sort(), WHOLE);
});
