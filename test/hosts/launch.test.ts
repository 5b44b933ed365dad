/**
 * Runs that are launched on three hosts by ssh, and what befalls these. However a run is hit, it ends by itself with the weights of a
 * quiet run on one machine, and leaves no process on any host. How long each kind of fault took is in the log.
 */

import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { Sandbox } from '../e2e/support/sandbox.ts';
import type { Running } from '../support/running.ts';
import { Lab } from './support/lab.ts';

const PROGRAM = fileURLToPath(new URL('../../launcher/bin/sluice.js', import.meta.url));

let lab: Lab;
let sandbox: Sandbox;
let quietWeights: string;

test.before(async () => {
  lab = await Lab.up(3);
  sandbox = new Sandbox();
  sandbox.write('hosts.txt', 'h1 slots=2\nh2 slots=1\nh3 slots=1\n');
  sandbox.write(
    'run.yaml',
    'extends: dense.yaml\ntraining: { steps: 40 }\nfaults: { replacementSeconds: 1 }\n',
  );
  quietWeights = (await sandbox.json<{ weightsHash: string }>('train run.yaml')).weightsHash;
});
test.after.always(async () => {
  await lab?.down();
  sandbox?.dispose();
});

/** A run of its own on all hosts, coordinated by the first. */
function launch(runDir: string, ...words: string[]): Running {
  const command = ['launch', 'run.yaml', '--on', 'ssh:hosts.txt', '--workers', '4', '--run-dir', runDir];
  return lab.start('h1', [process.execPath, PROGRAM, ...command, '--json', ...words], {
    cwd: sandbox.path,
    environment: { SLUICE_DATA: `${sandbox.path}/data` },
  });
}

/** Ends what is listed, as `kill -9` does. */
function killIn(name: string, ...marks: readonly string[]): void {
  const found = lab.processes(name).filter(({ command }) => marks.every((mark) => command.includes(mark)));
  if (found.length === 0) throw new Error(`nothing of ${marks.join(' ')} runs in ${name}`);
  for (const { pid } of found) process.kill(pid, 'SIGKILL');
}

/** What still runs on the hosts, after a while in which it may end. */
async function leftOver(): Promise<string[]> {
  const list = () =>
    lab.names.flatMap((name) => lab.processes(name).map(({ command }) => `${name}: ${command}`));
  for (let waited = 0; list().length > 0 && waited < 30_000; waited += 100) await setTimeout(100);
  return list();
}

/** @returns seconds from now to the first step that is computed after the run was taken up again */
async function recovery(run: Running): Promise<number> {
  const start = performance.now();
  await run.shown('going on by itself from step');
  await nextStep(run);
  return (performance.now() - start) / 1000;
}

/** Resolves with the next line of a step. */
function nextStep({ child }: Running): Promise<void> {
  return new Promise((resolve) => {
    const look = (chunk: Buffer) => {
      if (!/^step /m.test(String(chunk))) return;
      child.stderr!.off('data', look);
      resolve();
    };
    child.stderr!.on('data', look);
  });
}

async function endsAsQuiet(t: ExecutionContext, run: Running): Promise<void> {
  const { code, stdout, stderr } = await run.ended;
  t.is(code, 0, `${stdout}\n${stderr}`);
  t.is(JSON.parse(stdout).weightsHash, quietWeights, stderr);
}

test.serial('three hosts give the bits of one', async (t) => {
  await endsAsQuiet(t, launch('runs/quiet'));
  t.deepEqual(await leftOver(), []);
});

interface Fault {
  readonly name: string;
  readonly hit: () => void | Promise<void>;
  /** What is done once the run goes on. */
  readonly mend?: () => void | Promise<void>;
}

const FAULTS: readonly Fault[] = [
  { name: 'a worker that is killed', hit: () => killIn('h2', 'worker.js') },
  { name: 'an agent that is killed', hit: () => killIn('h2', 'agent') },
  { name: 'a host that loses power', hit: () => lab.crash('h2'), mend: () => lab.boot('h2') },
  { name: 'a host that stands still', hit: () => lab.freeze('h2'), mend: () => lab.thaw('h2') },
  { name: 'a cable that is cut', hit: () => lab.cut('h2'), mend: () => lab.heal('h2') },
];

for (const [i, { name, hit, mend }] of FAULTS.entries()) {
  test.serial(`${name}: the run goes on to the same bits, and nothing is left`, async (t) => {
    t.timeout(240_000);
    const run = launch(`runs/fault-${i}`);
    await run.shown('saved step 8');
    await hit();
    const seconds = await recovery(run);
    t.log(`${name}: ${seconds.toFixed(1)} s to the next step`);
    await mend?.();
    await endsAsQuiet(t, run);
    t.deepEqual(await leftOver(), []);
  });
}

test.serial('a cable that is cut for a moment costs no step', async (t) => {
  t.timeout(240_000);
  const run = launch('runs/moment');
  await run.shown('saved step 8');
  lab.cut('h3');
  await setTimeout(3000);
  lab.heal('h3');
  await endsAsQuiet(t, run);
  t.notRegex((await run.ended).stderr, /going on by itself/);
  t.deepEqual(await leftOver(), []);
});

test.serial('a network that loses packets makes a run slow, and nothing else', async (t) => {
  t.timeout(240_000);
  for (const name of lab.names) lab.loss(name, 1);
  t.teardown(() => {
    for (const name of lab.names) lab.loss(name, 0);
  });
  const run = launch('runs/loss');
  await endsAsQuiet(t, run);
  t.notRegex((await run.ended).stderr, /going on by itself/);
});

test.serial(
  'a coordinator that is killed: the same command goes on to the same bits, and nothing is left',
  async (t) => {
    t.timeout(240_000);
    const first = launch('runs/coordinator');
    await first.shown('saved step 8');
    killIn('h1', 'launch');
    await first.ended;
    const second = launch('runs/coordinator');
    const start = performance.now();
    await nextStep(second);
    t.log(`${((performance.now() - start) / 1000).toFixed(1)} s to the next step`);
    await endsAsQuiet(t, second);
    t.deepEqual(await leftOver(), []);
  },
);

test.serial('a coordinator whose host loses power: the same command on another host goes on', async (t) => {
  t.timeout(240_000);
  sandbox.write('others.txt', 'h2 slots=1\nh3 slots=1\n');
  const first = launch('runs/host');
  await first.shown('saved step 8');
  await lab.crash('h1');
  const command = [
    'launch',
    'run.yaml',
    '--on',
    'ssh:others.txt',
    '--workers',
    '2',
    '--run-dir',
    'runs/host',
  ];
  const second = lab.start('h2', [process.execPath, PROGRAM, ...command, '--json'], {
    cwd: sandbox.path,
    environment: { SLUICE_DATA: `${sandbox.path}/data` },
  });
  await endsAsQuiet(t, second);
  await lab.boot('h1');
  t.deepEqual(await leftOver(), []);
});

test.serial(
  'two hosts that lose each other, though both reach the coordinator: the run goes on once they meet',
  async (t) => {
    t.timeout(240_000);
    const run = launch('runs/separate');
    await run.shown('saved step 8');
    const start = performance.now();
    lab.separate('h2', 'h3');
    await run.shown('going on by itself from step');
    t.log(`${((performance.now() - start) / 1000).toFixed(1)} s until it was noticed`);
    lab.reunite('h2', 'h3');
    await endsAsQuiet(t, run);
    t.deepEqual(await leftOver(), []);
  },
);

test.serial('two hosts that stay separated are named, and the run goes on without one of them', async (t) => {
  t.timeout(240_000);
  const run = launch('runs/apart');
  await run.shown('saved step 8');
  const start = performance.now();
  lab.separate('h2', 'h3');
  t.teardown(() => lab.reunite('h2', 'h3'));
  await run.shown('going on without h3 for now');
  await nextStep(run);
  t.log(`${((performance.now() - start) / 1000).toFixed(1)} s to the next step`);
  await endsAsQuiet(t, run);
  t.regex((await run.ended).stderr, /h2 and h3 do not reach each other, though all reach the coordinator/);
  t.deepEqual(await leftOver(), []);
});
