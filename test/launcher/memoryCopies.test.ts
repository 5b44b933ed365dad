import { existsSync, mkdirSync } from 'node:fs';
import { readManifestText } from '@sluice/checkpoint';
import { SluiceError } from '@sluice/core';
import { FaultsConfig, memoryOf } from '@sluice/train';
import test from 'ava';
import {
  type CopyInterval,
  copiesAfterStep,
  copyInterval,
  isWholeOn,
  type MemoryCopies,
  memoryRequest,
} from '../../launcher/src/coordinator/memoryCopies.ts';
import { initialState } from '../../launcher/src/coordinator/state.ts';
import type { Host } from '../../launcher/src/fleet/host.ts';
import { releaseHostMemory, sweepHostMemory } from '../../launcher/src/fleet/hostMemory.ts';
import { placeWorkers } from '../../launcher/src/fleet/placement.ts';

const host = (name: string) => ({ name }) as unknown as Host;
const [a, b, c] = ['a', 'b', 'c'].map(host) as [Host, Host, Host];
const faults = (given: object = {}) => ({ faults: FaultsConfig.parse(given) });

/** What copies of a step are asked for, and what becomes of it. */
async function copied(
  hosts: readonly Host[],
  workers: number,
  step = 4,
  everySteps: CopyInterval = 2,
  now = () => 0,
) {
  const asked: { copies: readonly number[] }[] = [];
  const kept: MemoryCopies[] = [];
  const warnings: string[] = [];
  let failure: Error | undefined;
  const act = copiesAfterStep({
    everySteps,
    now,
    placements: placeWorkers(hosts, workers),
    tensors: () => [],
    state: { ...initialState({}), step },
    of: { config: {}, configHash: '', datasetHash: '' },
    kept: (copies) => {
      kept.push(copies);
    },
    warn: (text) => warnings.push(text),
  });
  const shard = (rank: number) => ({
    file: `shard-0000${rank}.w.safetensors`,
    size: 8,
    headerHash: '0'.repeat(64),
    pieces: [],
  });
  const run = {
    workers: {
      id: 'w',
      async call(_: string, request: { copies: readonly number[] }) {
        asked.push(request);
        if (failure) throw failure;
        return Array.from({ length: workers }, (_, rank) => ({
          shard: shard(rank),
          state: { expertLoads: [] },
        }));
      },
    },
  };
  const again = (error?: Error) => {
    failure = error;
    return act(run as never, {} as never);
  };
  await again();
  return { asked, kept, warnings, again };
}

test('copies are kept as often as is affordable on several hosts, unless asked otherwise or faults stop the run', (t) => {
  t.is(copyInterval(faults(), 2), 'affordable');
  t.is(copyInterval(faults(), 1), 0);
  t.is(copyInterval(faults({ bufferEverySteps: 5 }), 1), 5);
  t.is(copyInterval(faults({ bufferEverySteps: 0 }), 3), 0);
  t.is(copyInterval(faults({ policy: 'stop' }), 3), 0);
});

test('what a worker owns is kept on its host and on the next one', async (t) => {
  const { asked, kept } = await copied([a, b, c], 4);
  t.deepEqual(asked[0]!.copies, [2, 2, 3, 0]);
  t.deepEqual(
    kept[0]!.holders.map((those) => those.map(({ name }) => name)),
    [
      ['a', 'b'],
      ['a', 'b'],
      ['b', 'c'],
      ['a', 'c'],
    ],
  );
  t.is(readManifestText(kept[0]!.manifest).step, 4);
  t.is(kept[0]!.state.step, 4);
});

test('a lone host keeps its own, and nothing is copied between the steps asked for', async (t) => {
  const { asked, kept } = await copied([a], 2);
  t.deepEqual(asked[0]!.copies, [-1, -1]);
  t.deepEqual(kept[0]!.holders, [[a], [a]]);
  t.is((await copied([a], 2, 5)).asked.length, 0);
});

test('one host may be lost, and neighbours may not', async (t) => {
  const { kept } = await copied([a, b, c], 4);
  const [copies] = kept as [MemoryCopies];
  t.true(
    [
      [b, c],
      [a, c],
      [a, b],
    ].every((left) => isWholeOn(copies, left)),
  );
  t.false(isWholeOn(copies, [c]));
  t.false(isWholeOn(copies, [host('a'), b]), 'an agent that came anew has lost what the one before had');
});

test('new workers fetch what their host lacks from one that has it', async (t) => {
  const { kept } = await copied([a, b, c], 4);
  const { moves, step } = memoryRequest(kept[0]!, placeWorkers([a, c], 4));
  t.is(step, 4);
  t.deepEqual(moves, [
    { shard: 2, from: 2, to: 0 },
    { shard: 0, from: 0, to: 2 },
    { shard: 1, from: 0, to: 2 },
  ]);
  t.deepEqual(memoryRequest(kept[0]!, placeWorkers([a, b, c], 4)).moves.length, 4);
});

test('where a host’s memory takes no copies the run goes on without them, and says so once', async (t) => {
  for (const code of ['SLUICE_E_DISK_FULL', 'SLUICE_E_FILE_UNWRITABLE'] as const) {
    const { asked, warnings, again } = await copied([a, b], 2);
    await again(new SluiceError(code, 'No space left.'));
    await again();
    t.is(asked.length, 2);
    t.deepEqual(warnings, ['no copies are kept in memory any more: No space left.']);
  }
  const { again: other } = await copied([a, b], 2);
  await t.throwsAsync(other(new SluiceError('SLUICE_E_WORKER_LOST', 'gone')), {
    code: 'SLUICE_E_WORKER_LOST',
  });
});

test('copies of processes that are gone are removed, and one’s own with oneself', (t) => {
  // No process has so high a number.
  const [dead, own] = [memoryOf(2 ** 30), memoryOf(process.pid)];
  for (const path of [dead, own]) mkdirSync(path, { recursive: true });
  sweepHostMemory();
  t.false(existsSync(dead));
  t.true(existsSync(own));
  releaseHostMemory();
  t.false(existsSync(own));
});

test('what is affordable is a twentieth of the time', async (t) => {
  let clock = 0;
  // Each look at the clock takes a second, so that a copy, which looks before and after, takes one.
  const { asked, again } = await copied([a, b], 2, 4, 'affordable', () => clock++);
  t.is(asked.length, 1, 'the first step is copied');
  await again();
  t.is(asked.length, 1);
  clock += 20;
  await again();
  t.is(asked.length, 2);
});
