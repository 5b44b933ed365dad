import { SluiceError } from '@sluice/core';
import { FaultsConfig, type RunConfig } from '@sluice/train';
import test from 'ava';
import { Restarts } from '../../launcher/src/coordinator/restarts.ts';

const restarts = (faults: Partial<RunConfig['faults']> = {}) => new Restarts(FaultsConfig.parse(faults));

const died = (how: { exitCode?: number; signal?: string }, rank = 1) =>
  new SluiceError('SLUICE_E_WORKER_DIED', `Worker ${rank} ended.`, {
    details: { rank, exitCode: how.exitCode ?? null, signal: how.signal ?? null },
  });
const killed = () => died({ signal: 'SIGKILL' });

test('faults from outside are allowed wherever they come, as long as there are new checkpoints between them', (t) => {
  const judge = restarts({ maxRestarts: 2 });
  t.is(judge.allow(killed(), 11, 10), 0);
  t.is(judge.allow(killed(), 11, 10), 1000);
  for (const saved of [20, 30, 40]) t.is(judge.allow(killed(), saved + 1, saved), 0);
});

test('too many faults without a new checkpoint end the run, with the last one and their number', (t) => {
  const judge = restarts({ maxRestarts: 3 });
  t.deepEqual(
    [5, 6, 7].map((step) => judge.allow(killed(), step, -1)),
    [0, 1000, 2000],
  );
  const error = t.throws(() => judge.allow(killed(), 8, -1), { instanceOf: SluiceError });
  t.is(error.code, 'SLUICE_E_FAULT_REPEATED');
  t.regex(error.message, /^4 faults came without a new checkpoint .*maxRestarts is 3.*Worker 1 ended/);
  t.is(error.details.fault, 'SLUICE_E_WORKER_DIED');
});

test('the same fault at the same step is no chance, and ends the run', (t) => {
  for (const fault of [died({ exitCode: 3 }), died({ signal: 'SIGSEGV' })]) {
    const judge = restarts();
    judge.allow(fault, 7, 5);
    const error = t.throws(() => judge.allow(fault, 7, 5), { instanceOf: SluiceError });
    t.is(error.code, 'SLUICE_E_FAULT_REPEATED');
    t.regex(error.message, /came twice at step 7/);
  }
});

test('another step, another rank or another end is another fault', (t) => {
  const judge = restarts();
  judge.allow(died({ exitCode: 3 }), 7, 5);
  judge.allow(died({ exitCode: 3 }), 8, 5);
  judge.allow(died({ exitCode: 3 }, 0), 8, 5);
  t.notThrows(() => judge.allow(died({ exitCode: 4 }, 0), 8, 5));
});

test('what is wrong with the run itself is thrown as it is, and so is everything where faults stop the run', (t) => {
  const nonFinite = new SluiceError('SLUICE_E_NON_FINITE', 'No number.');
  t.is(
    t.throws(() => restarts().allow(nonFinite, 1, -1)),
    nonFinite,
  );
  const bug = new TypeError('a bug');
  t.is(
    t.throws(() => restarts().allow(bug, 1, -1)),
    bug,
  );
  const fault = killed();
  t.is(
    t.throws(() => restarts({ policy: 'stop' }).allow(fault, 1, -1)),
    fault,
  );
});

test('a GPU that fails is a fault like a worker that dies, and the same one at the same step is no chance', (t) => {
  const failed = (call: string, details: object) =>
    new SluiceError('SLUICE_E_CUDA', `${call} failed.`, { details: { ...details } });
  const memory = { result: 'CUDA_ERROR_ECC_UNCORRECTABLE', isOfDevice: true };
  const judge = restarts();
  t.is(judge.allow(failed('cuLaunchKernel', memory), 7, 5), 0);
  t.is(judge.allow(failed('cuStreamSynchronize', memory), 8, 5), 1000);
  const error = t.throws(() => judge.allow(failed('cuEventQuery', memory), 8, 5), {
    instanceOf: SluiceError,
  });
  t.is(error.code, 'SLUICE_E_FAULT_REPEATED');
  // A call that is refused would be refused again.
  const refused = failed('cuMemFree', { result: 'CUDA_ERROR_INVALID_VALUE', isOfDevice: false });
  t.is(
    t.throws(() => restarts().allow(refused, 7, 5)),
    refused,
  );
});
