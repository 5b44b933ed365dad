import { fork } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { readFileSync, realpathSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ControlServer } from '@sluice/collectives';
import test, { type ExecutionContext } from 'ava';
import { type Stall, stallLine } from '../../launcher/src/coordinator/stall.ts';
import { startTeam, type TeamOptions } from '../../launcher/src/coordinator/team.ts';
import type { Workers } from '../../launcher/src/coordinator/workers.ts';
import { localHost } from '../../launcher/src/fleet/localHost.ts';
import { placeWorkers } from '../../launcher/src/fleet/placement.ts';
import { processStart } from '../../launcher/src/run/processIdentity.ts';
import { failureOf } from '../support/failureOf.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const entry = fileURLToPath(new URL('./support/workerProcess.js', import.meta.url));

interface Started {
  readonly workers: Workers;
  readonly log: readonly string[];
  /** Resolves when the workers have said a line. */
  said(line: string): Promise<void>;
}

/** Starts two workers, of which one fails as `fault` says. */
async function start(
  t: ExecutionContext,
  fault = '',
  options: Pick<TeamOptions, 'limits' | 'onStall' | 'logs'> = {},
): Promise<Started> {
  const log: string[] = [];
  const lines = new EventEmitter();
  process.env.FAKE_FAULT = fault;
  const workers = await startTeam({
    ...options,
    placements: placeWorkers([localHost(entry)], 2),
    threads: 3,
    onDevices: false,
    log(line) {
      log.push(line);
      lines.emit(line);
    },
  });
  t.teardown(() => workers.kill());
  const said = async (line: string) => {
    if (!log.includes(line)) await once(lines, line);
  };
  return { workers, log, said };
}

const INITIALIZE = { config: {} as never, dataDirectories: [], datasetHash: '' };

const step = (number: number) => ({ step: number, learningRate: 1 });

test.serial('workers answer in rank order, know their threads, and end when they are stopped', async (t) => {
  const { workers, log } = await start(t);
  const answers = await workers.call('initialize', INITIALIZE);
  t.deepEqual(
    answers.map(({ threads }) => threads),
    [3, 3],
  );
  const pids = (await workers.call('step', step(1))).length;
  t.is(pids, 2);
  await workers.stop();
  t.deepEqual([...log].sort(), ['[worker 0] step 1 of rank 0', '[worker 1] step 1 of rank 1']);
});

test.serial('workers start though the directory that the command was given in is gone', async (t) => {
  const before = process.cwd();
  const gone = temporaryDirectory(t);
  process.chdir(gone);
  t.is(process.cwd(), realpathSync(gone));
  rmSync(gone, { recursive: true });
  const starting = start(t);
  const { workers } = await starting.finally(() => process.chdir(before));
  t.is((await workers.call('step', step(1))).length, 2);
  await workers.stop();
});

const deaths: [string, RegExp][] = [
  ['1:step:kill', /^Worker 1 \(process \d+\) ended by signal SIGKILL during: step 2 \(its last heartbeat: /],
  ['0:step:exit', /^Worker 0 \(process \d+\) ended by exit code 3 during: step 2 \(its last heartbeat: /],
];

for (const [fault, message] of deaths) {
  test.serial(`a worker that dies (${fault}) is named with how, during what, and how to go on`, async (t) => {
    const { workers } = await start(t, fault);
    const error = await failureOf(workers.call('step', step(2)));
    t.is(error.code, 'SLUICE_E_WORKER_DIED');
    t.regex(error.message, message);
    t.is(error.details.rank, Number(fault[0]));
    await workers.kill();
  });
}

test.serial('what a worker’s event handler throws ends it, and its last lines say what it was', async (t) => {
  const { workers, log } = await start(t, '0:step:escape');
  const error = await failureOf(workers.call('step', step(2)));
  t.is(error.code, 'SLUICE_E_WORKER_DIED');
  t.regex(error.message, /^Worker 0 .* ended by exit code 1 during: step 2/);
  t.true(log.includes('[worker 0] TypeError: a bug that nobody waits for'));
  await workers.kill();
});

test.serial('a worker’s bug comes with its rank, its method and its stack', async (t) => {
  const { workers } = await start(t, '1:step:throw');
  const error = await failureOf(workers.call('step', step(2)));
  t.is(error.code, 'SLUICE_E_WORKER_FAILED');
  t.is(error.message, 'Rank 1 failed in step: a bug of the worker');
  t.regex(String(error.details.stack), /workerProcess\.js/);
});

test.serial('a worker that dies while starting is named at once', async (t) => {
  const error = await failureOf(start(t, '1:start:exit'));
  t.is(error.code, 'SLUICE_E_WORKER_DIED');
  t.regex(error.message, /Worker 1 .* exit code 3 during: starting up/);
});

test.serial('a coded error of one worker among others is told with its rank', async (t) => {
  const { workers } = await start(t, '1:save:full');
  const error = await failureOf(workers.call('save', { directory: 'x' }));
  t.is(error.code, 'SLUICE_E_DISK_FULL');
  t.is(error.message, 'Worker 1: No space left while writing x.');
  t.deepEqual(error.details.failedRanks, [1]);
});

test.serial('a coded error of all workers is told as it is', async (t) => {
  const { workers } = await start(t, '*:save:full');
  const error = await failureOf(workers.call('save', { directory: 'x' }));
  t.is(error.code, 'SLUICE_E_DISK_FULL');
  t.is(error.message, 'No space left while writing x.');
});

test.serial('killed workers are gone when kill has resolved, and need not be stopped', async (t) => {
  const { workers, said } = await start(t, '1:step:hang');
  const answers = await workers.call('initialize', INITIALIZE);
  const pids = answers.map((answer) => (answer as unknown as { pid: number }).pid);
  const call = failureOf(workers.call('step', step(1)));
  await said('[worker 1] hangs');
  t.false(pids.some((pid) => processStart(pid) === undefined));
  await workers.kill();
  t.deepEqual(
    pids.map((pid) => processStart(pid)),
    [undefined, undefined],
  );
  t.is((await call).code, 'SLUICE_E_WORKER_LOST');
  await t.notThrowsAsync(workers.stop());
});

test.serial(
  'a step that takes long is told, with the worker that has not come to where the others wait',
  async (t) => {
    const stalls = new EventEmitter();
    const { workers } = await start(t, '1:step:hang', {
      limits: { firstStep: 15_000 },
      logs: temporaryDirectory(t),
      onStall: (stall) => stalls.emit('stall', stall),
    });
    const call = failureOf(workers.call('step', step(1)));
    let stall: Stall;
    do [stall] = (await once(stalls, 'stall')) as [Stall];
    while (stall.others.length === 0);
    t.is(stall.task, 'step 1');
    t.deepEqual(
      stall.missing.map(({ rank, doing }) => [rank, doing]),
      [[1, 'step 1']],
    );
    t.regex(
      stallLine(stall),
      /^step 1 has been going on for \d+ s\. Not there yet: worker 1 \(process \d+; last: step 1, /,
    );
    t.regex(stallLine(stall), /1 others wait for them in barrier/);
    t.regex(stallLine(stall), /is doing is in .*start-0001\/stall-\d\.$/);
    const [waiting, missing] = [0, 1].map((rank) =>
      JSON.parse(readFileSync(join(stall.states!, `rank-${rank}.json`), 'utf8')),
    );
    t.like(waiting, { rank: 0, task: 'step 1', hasAnswered: false, state: { activity: 'step 1' } });
    t.like(waiting.state.operations, [{ name: 'barrier', group: [0, 1], sequence: 0 }]);
    t.like(waiting.state.operations[0].waitingFor, [{ rank: 1 }]);
    t.true(waiting.state.residentBytes > 0 && waiting.state.cpuSeconds > 0);
    t.like(missing, { rank: 1, state: { operations: [] } });
    await workers.kill();
    await call;
  },
);

test.serial('a worker whose coordinator is gone ends by itself', async (t) => {
  const server = await ControlServer.listen({ worldSize: 1 });
  t.teardown(() => server.close());
  const worker = fork(fileURLToPath(new URL('../../launcher/src/worker.ts', import.meta.url)), {
    stdio: 'ignore',
  });
  t.teardown(() => worker.kill('SIGKILL'));
  worker.send(server.invitation(0));
  await server.ready();
  const ended = once(worker, 'exit');
  worker.disconnect();
  t.deepEqual(await ended, [1, null]);
});
