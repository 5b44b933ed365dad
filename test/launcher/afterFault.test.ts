/** A run goes back after a fault only to what it truly has, and waits for a disk that does not let it. */

import { existsSync, mkdirSync, renameSync, rmdirSync } from 'node:fs';
import { SluiceError } from '@sluice/core';
import test, { type ExecutionContext } from 'ava';
import { goBack } from '../../launcher/src/coordinator/afterFault.ts';
import type { MemoryCopies } from '../../launcher/src/coordinator/memoryCopies.ts';
import { initialState } from '../../launcher/src/coordinator/state.ts';
import type { Session, Underway } from '../../launcher/src/coordinator/underway.ts';
import { localFleet } from '../../launcher/src/fleet/fleet.ts';
import type { Host } from '../../launcher/src/fleet/host.ts';
import { openJournal, readJournal } from '../../launcher/src/run/journal.ts';
import { makeSavedRun } from './support/savedRun.ts';

const fault = new SluiceError('SLUICE_E_WORKER_DIED', 'Worker 0 ended.');
const noRoom = () => new SluiceError('SLUICE_E_DISK_FULL', 'No space left.');

/** A run with a checkpoint of step 4, and what it goes back with. */
async function setUp(t: ExecutionContext, options: { pause: (path: string) => void; failures?: number }) {
  const { run, config, save } = await makeSavedRun(t);
  await save(4);
  const journal = openJournal(run.journal);
  t.teardown(() => journal.close());
  const fleet = localFleet();
  const messages: string[] = [];
  const stop = { requested: false };
  let failures = options.failures ?? 0;
  const recorder = {
    message: (text: string) => messages.push(text),
    goBack(_step: number, rewrite: () => void) {
      if (failures-- > 0) throw noRoom();
      rewrite();
    },
  };
  const pause = async () => options.pause(run.path);
  const underway = { recorder, stop, patience: { attempts: 3, pause } } as unknown as Underway;
  return {
    ...{ run, messages, stop, underway },
    goBack: (hosts: readonly Host[] = fleet.hosts(), workers = config.parallel.workers) => {
      const spread = { ...config, parallel: { ...config.parallel, workers } };
      return goBack({ run, config: spread, journal, fleet } as Session, underway, fault, hosts);
    },
    restarts: () => readJournal(run.journal).filter(({ kind }) => kind === 'restart'),
  };
}

test.serial('a run whose directory has vanished waits for it, and does not begin anew', async (t) => {
  const all = await setUp(t, { pause: (path) => renameSync(`${path}.away`, path) });
  renameSync(all.run.path, `${all.run.path}.away`);
  const start = await all.goBack();
  t.is(start?.state.step, 4);
  t.like(all.restarts(), [{ step: 4, checkpoint: 'checkpoints/step-00000004' }]);
  t.regex(
    all.messages[0]!,
    /cannot go back yet: The run's directory .* is not there .*trying again \(1 of 3\)/,
  );
});

test.serial('a mount that vanishes from a run’s directory itself is waited for too', async (t) => {
  const away = (path: string) => `${path}.away`;
  const all = await setUp(t, {
    pause(path) {
      rmdirSync(path);
      renameSync(away(path), path);
    },
  });
  renameSync(all.run.path, away(all.run.path));
  mkdirSync(all.run.path);
  t.is((await all.goBack())?.state.step, 4);
});

test.serial('a run that cannot write while it goes back waits for room, and goes back once', async (t) => {
  const all = await setUp(t, { pause: () => {}, failures: 2 });
  t.is((await all.goBack())?.state.step, 4);
  t.is(all.restarts().length, 1);
  t.is(all.messages.filter((text) => text.includes('No space left.')).length, 2);
});

test.serial('a run that can never go back ends with what keeps it, or when it is to stop', async (t) => {
  const all = await setUp(t, { pause: () => {} });
  renameSync(all.run.path, `${all.run.path}.away`);
  await t.throwsAsync(all.goBack(), { code: 'SLUICE_E_FILE_MISSING' });
  all.stop.requested = true;
  await t.throwsAsync(all.goBack(), { code: 'SLUICE_E_INTERRUPTED' });
  t.false(existsSync(all.run.path));
});

test.serial(
  'copies are gone on from only where hosts that still have workers hold all of them',
  async (t) => {
    const all = await setUp(t, { pause: () => {} });
    const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((name) => ({ name, slots: 1 }) as Host) as Host[];
    // Of four hosts with a worker each, whose parts lie on the next ones too; three have room for two workers, on the first of them.
    const holders = [a, b, c, d].map((host, i, hosts) => [host!, hosts[(i + 1) % 4]!]);
    const goBackOn = (...hosts: readonly (Host | undefined)[]) => {
      const copies: MemoryCopies = {
        step: 6,
        state: { ...initialState({}), step: 6 },
        manifest: '',
        holders,
      };
      Object.assign(all.underway, { copies });
      return all.goBack(hosts as Host[], 4);
    };
    t.is((await goBackOn(a, c, d))?.copies?.step, 6);
    const start = await goBackOn(b, c, d);
    t.is(start?.copies, undefined, 'the last part is on d alone, which has no worker');
    t.is(start?.state.step, 4);
  },
);
