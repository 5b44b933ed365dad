/**
 * Runs that are launched on three hosts by ssh, and what befalls these. However a run is hit, it ends by itself with the weights of a
 * quiet run on one machine, and leaves no process on any host. How long each kind of fault took is in the log.
 */

import { setTimeout } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { Running } from '../support/running.ts';
import type { Lab } from './support/lab.ts';
import { LaunchLab } from './support/launched.ts';

let all: LaunchLab;
let lab: Lab;

test.before(async () => {
  all = await LaunchLab.up('extends: dense.yaml\ntraining: { steps: 40 }', { workers: 4 });
  lab = all.lab;
});
test.after.always(() => all?.down());

/** @returns seconds from now to the first step that is computed after the run was taken up again */
async function recovery(run: Running, runDir: string): Promise<number> {
  const start = performance.now();
  await run.shown('going on by itself from step');
  await all.nextStep(runDir, run);
  return (performance.now() - start) / 1000;
}

async function endsAsQuiet(t: ExecutionContext, run: Running): Promise<void> {
  const { code, stdout, stderr } = await run.ended;
  t.is(code, 0, `${stdout}\n${stderr}`);
  t.is(JSON.parse(stdout).weightsHash, all.quietWeights, stderr);
}

for (const protection of ['encrypted', 'authenticated']) {
  test.serial(`three hosts give the bits of one by connections that are ${protection}`, async (t) => {
    const words = ['--set', `hosts.protection=${protection}`];
    await endsAsQuiet(t, all.launch({ runDir: `runs/${protection}`, words }));
    t.deepEqual(await all.leftOver(), []);
  });
}

interface Fault {
  readonly name: string;
  readonly hit: () => void | Promise<void>;
  /** What is done once the run goes on. */
  readonly mend?: () => void | Promise<void>;
}

const FAULTS: readonly Fault[] = [
  { name: 'a worker that is killed', hit: () => all.killIn('h2', 'worker.js') },
  { name: 'an agent that is killed', hit: () => all.killIn('h2', 'agent') },
  { name: 'a host that loses power', hit: () => lab.crash('h2'), mend: () => lab.boot('h2') },
  { name: 'a host that stands still', hit: () => lab.freeze('h2'), mend: () => lab.thaw('h2') },
  { name: 'a cable that is cut', hit: () => lab.cut('h2'), mend: () => lab.heal('h2') },
];

for (const [i, { name, hit, mend }] of FAULTS.entries()) {
  test.serial(`${name}: the run goes on to the same bits, and nothing is left`, async (t) => {
    t.timeout(240_000);
    const run = all.launch({ runDir: `runs/fault-${i}` });
    await run.shown('saved step 8');
    await hit();
    const seconds = await recovery(run, `runs/fault-${i}`);
    t.log(`${name}: ${seconds.toFixed(1)} s to the next step`);
    await mend?.();
    await endsAsQuiet(t, run);
    t.deepEqual(await all.leftOver(), []);
  });
}

test.serial('a cable that is cut for a moment costs no step', async (t) => {
  t.timeout(240_000);
  const run = all.launch({ runDir: 'runs/moment' });
  await run.shown('saved step 8');
  lab.cut('h3');
  await setTimeout(3000);
  lab.heal('h3');
  await endsAsQuiet(t, run);
  t.notRegex((await run.ended).stderr, /going on by itself/);
  t.deepEqual(await all.leftOver(), []);
});

test.serial('a network that loses packets makes a run slow, and nothing else', async (t) => {
  t.timeout(240_000);
  for (const name of lab.names) lab.loss(name, 1);
  t.teardown(() => {
    for (const name of lab.names) lab.loss(name, 0);
  });
  const run = all.launch({ runDir: 'runs/loss' });
  await endsAsQuiet(t, run);
  t.notRegex((await run.ended).stderr, /going on by itself/);
});

test.serial(
  'a coordinator that is killed: the same command goes on to the same bits, and nothing is left',
  async (t) => {
    t.timeout(240_000);
    const first = all.launch({ runDir: 'runs/coordinator' });
    await first.shown('saved step 8');
    all.killIn('h1', 'launch');
    await first.ended;
    const second = all.launch({ runDir: 'runs/coordinator' });
    const start = performance.now();
    await all.nextStep('runs/coordinator', second);
    t.log(`${((performance.now() - start) / 1000).toFixed(1)} s to the next step`);
    await endsAsQuiet(t, second);
    t.deepEqual(await all.leftOver(), []);
  },
);

test.serial('a coordinator whose host loses power: the same command on another host goes on', async (t) => {
  t.timeout(240_000);
  all.sandbox.write('others.txt', 'h2 slots=1\nh3 slots=1\n');
  const first = all.launch({ runDir: 'runs/host' });
  await first.shown('saved step 8');
  await lab.crash('h1');
  const words = ['--workers', '2'];
  const second = all.launch({ runDir: 'runs/host', hosts: 'others.txt', from: 'h2', words });
  await endsAsQuiet(t, second);
  await lab.boot('h1');
  t.deepEqual(await all.leftOver(), []);
});

test.serial(
  'two hosts that lose each other, though both reach the coordinator: the run goes on once they meet',
  async (t) => {
    t.timeout(240_000);
    const run = all.launch({ runDir: 'runs/separate' });
    await run.shown('saved step 8');
    const start = performance.now();
    lab.separate('h2', 'h3');
    await run.shown('going on by itself from step');
    t.log(`${((performance.now() - start) / 1000).toFixed(1)} s until it was noticed`);
    lab.reunite('h2', 'h3');
    await endsAsQuiet(t, run);
    t.deepEqual(await all.leftOver(), []);
  },
);

test.serial('two hosts that stay separated are named, and the run goes on without one of them', async (t) => {
  t.timeout(240_000);
  const run = all.launch({ runDir: 'runs/apart' });
  await run.shown('saved step 8');
  const start = performance.now();
  lab.separate('h2', 'h3');
  t.teardown(() => lab.reunite('h2', 'h3'));
  await run.shown('going on without h3 for now');
  await all.nextStep('runs/apart', run);
  t.log(`${((performance.now() - start) / 1000).toFixed(1)} s to the next step`);
  await endsAsQuiet(t, run);
  t.regex((await run.ended).stderr, /h2 and h3 do not reach each other, though all reach the coordinator/);
  t.deepEqual(await all.leftOver(), []);
});
