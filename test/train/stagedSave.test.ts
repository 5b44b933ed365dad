import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Piece, writeShard } from '@sluice/checkpoint';
import test, { type ExecutionContext } from 'ava';
import { StagedSave } from '../../packages/train/dist/stagedSave.js';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const SIZE = 100_000;

function pieces(fill: number, size = SIZE): Piece[] {
  const tensor = { name: 'a', shape: [size] };
  return (['parameter', 'firstMoment'] as const).map((kind, i) => ({
    ...{ tensor, kind, begin: 0, end: size },
    values: Float32Array.from({ length: size }, (_, j) => fill * (i + 1) + j),
  }));
}

async function outcome(save: StagedSave) {
  for (;;) {
    const { written } = save;
    if (written.shard || written.failure) return written;
    await delay(5);
  }
}

async function inDirectory(t: ExecutionContext, all: Piece[]) {
  const directory = temporaryDirectory(t);
  return writeShard(directory, 0, all);
}

test('what is written is the state that was staged, however it changes since, save after save', async (t) => {
  const save = new StagedSave();
  for (const [fill, size] of [
    [1, SIZE],
    [2, SIZE],
    [3, SIZE / 2],
  ] as const) {
    const state = pieces(fill, size);
    const directory = temporaryDirectory(t);
    save.stage(state);
    save.write(directory, 0, { makes: false });
    for (const { values } of state) values.fill(-1);
    t.deepEqual((await outcome(save)).shard, await inDirectory(t, pieces(fill, size)));
    t.true(existsSync(join(directory, 'shard-00000.safetensors')));
  }
});

test('what cannot be written is told with its code, and the staged state can be written elsewhere', async (t) => {
  const save = new StagedSave();
  const directory = temporaryDirectory(t);
  save.stage(pieces(3));
  save.write(join(directory, 'missing'), 0, { makes: false });
  t.like((await outcome(save)).failure, { code: 'SLUICE_E_FILE_MISSING' });
  save.write(directory, 0, { writer: 'again', makes: false });
  t.is((await outcome(save)).shard?.file, 'shard-00000.again.safetensors');
});
