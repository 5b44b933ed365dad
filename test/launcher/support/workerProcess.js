/**
 * A worker process without a model, for tests of the launcher: joins like a real one, answers steps, and fails when
 * FAKE_FAULT says so: RANK:METHOD:WAY, where RANK may be `*` and WAY is `kill`, `exit`, `throw`, `escape`, `full` or `hang`.
 */

import { Communicator, receiveInvitation } from '@sluice/collectives';
import { SluiceError } from '@sluice/core';

process.on('disconnect', () => process.exit(1));

const [rank, method, way] = (process.env.FAKE_FAULT ?? '').split(':');
const invitation = await receiveInvitation();
if (rank === String(invitation.rank) && method === 'start') fail();

const communicator = await Communicator.connect(invitation);

function fail() {
  if (way === 'kill') process.kill(process.pid, 'SIGKILL');
  if (way === 'exit') process.exit(3);
  if (way === 'throw') throw new Error('a bug of the worker');
  if (way === 'full') throw new SluiceError('SLUICE_E_DISK_FULL', 'No space left while writing x.');
  if (way === 'escape')
    setImmediate(() => {
      throw new TypeError('a bug that nobody waits for');
    });
  process.stderr.write('hangs\n');
  return new Promise(() => {});
}

function serving(name, answer) {
  return async (request) => {
    communicator.progress(name === 'step' ? `step ${request.step}` : name);
    if ((rank === '*' || Number(rank) === communicator.rank) && method === name) await fail();
    // Everyone needs everyone: a worker that is gone is missed by the others first.
    communicator.world.barrier().wait();
    return answer(request);
  };
}

await communicator.serve({
  initialize: serving('initialize', () => ({
    backend: 'fake',
    threads: Number(process.env.OMP_NUM_THREADS),
    pid: process.pid,
  })),
  step: serving('step', ({ step }) => {
    process.stderr.write(`step ${step} of rank ${communicator.rank}\n`);
    return { step, loss: 1 };
  }),
  evaluate: serving('evaluate', () => ({ loss: 1 })),
  save: serving('save', () => ({})),
  stop: async () => ({}),
});
await communicator.close();
process.removeAllListeners('disconnect');
process.disconnect?.();
