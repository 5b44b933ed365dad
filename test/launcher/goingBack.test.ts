import type { Rollback } from '@sluice/train';
import test, { type ExecutionContext } from 'ava';
import { goBackTo, HeldStates } from '../../launcher/src/coordinator/goingBack.ts';
import { initialState } from '../../launcher/src/coordinator/state.ts';
import type { Session, Underway } from '../../launcher/src/coordinator/underway.ts';
import { fakeWorkers } from './support/fakeWorkers.ts';
import { makeSavedRun } from './support/savedRun.ts';

/** A run with a checkpoint of step 4 that goes back, on hosts that do not see it, and what happened in which order. */
async function gone(t: ExecutionContext, isHeld: boolean) {
  const { run, config, save } = await makeSavedRun(t);
  await save(4);
  const happened: string[] = [];
  const workers = fakeWorkers();
  const call = workers.call.bind(workers);
  workers.call = (method, request) => {
    happened.push(`${method} ${JSON.stringify(request).replace(run.path, '')}`);
    return call(method, request);
  };
  const collection = {
    bring: async ({ checkpoint }: { checkpoint?: string | undefined }) => {
      happened.push(`bring ${checkpoint?.replace(run.path, '')}`);
    },
    clear: async (...names: string[]) => {
      happened.push(`clear ${names}`);
    },
  };
  const held = new HeldStates();
  if (isHeld) held.add({ ...initialState({}), step: 4 });
  const recorder = { goBack: (_step: number, rewrite: () => void) => rewrite() };
  const { state } = await goBackTo(
    { to: 4 } as Rollback,
    { workers, held, collection },
    { run, config } as Session,
    { recorder } as unknown as Underway,
  );
  return { step: state.step, happened };
}

test.serial(
  'hosts apart are brought the checkpoint that workers go back to, for as long as they read it',
  async (t) => {
    const { step, happened } = await gone(t, false);
    t.is(step, 4);
    const checkpoint = '/checkpoints/step-00000004';
    t.deepEqual(happened, [
      `bring ${checkpoint}`,
      `restore {"checkpoint":"${checkpoint}","isBrought":true}`,
      'clear checkpoint',
    ]);
  },
);

test.serial('a state that the workers hold in memory needs nothing to be brought', async (t) => {
  const { step, happened } = await gone(t, true);
  t.is(step, 4);
  t.deepEqual(happened, ['restore {"snapshot":4}']);
});
