/** Collective operations measured among processes of this machine; those between hosts are with what is launched on hosts. */

import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { workersOf } from './support/processes.ts';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

/** Long enough to be ended before it is done. */
const LONG = 'bench collectives --mib 400 --json';

function error(stdout: string): { code: string; advice: string } {
  return JSON.parse(stdout).error;
}

async function workerStarted(coordinator: number): Promise<number> {
  for (;;) {
    const [first] = workersOf(coordinator);
    if (first !== undefined) return first;
    await delay(20);
  }
}

test.serial('a measurement among processes tells the parts of the median operation', async (t) => {
  const measured = await sandbox.json<Record<string, number>>('bench collectives --mib 1');
  t.like(measured, { operation: 'allReduce', world: 2, mib: 1, transport: 'ipc' });
  const { medianMs, minMs, waitingMs, movingMs, cpuMs, busGBps } = measured as Record<string, number>;
  t.true(medianMs! >= minMs! && minMs! > 0 && waitingMs! >= 0 && cpuMs! > 0);
  t.true(Math.abs(waitingMs! + movingMs! - medianMs!) < 1e-9);
  t.true(Math.abs(busGBps! - 2 ** 20 / medianMs! / 1e6) < 1e-9);
});

test.serial('what a killed measurement leaves, the next one removes', async (t) => {
  const temporary = join(sandbox.path, 'temporary');
  mkdirSync(temporary);
  const killed = sandbox.start(LONG, { TMPDIR: temporary });
  await workerStarted(killed.child.pid!);
  killed.child.kill('SIGKILL');
  await killed.ended;
  const left = readdirSync(temporary);
  t.is(left.length, 1);
  t.true(existsSync(join(temporary, left[0]!, 'owner.json')));
  const next = await sandbox.start('bench collectives --mib 0.1', { TMPDIR: temporary }).ended;
  t.is(next.code, 0, next.stderr);
  t.deepEqual(readdirSync(temporary), []);
});

test.serial('what a measurement fails of advises what a measurement has', async (t) => {
  const memory = await sandbox.start('bench collectives --mib 1e9 --json').ended;
  t.is(memory.code, 1);
  t.is(error(memory.stdout).code, 'SLUICE_E_OUT_OF_MEMORY');
  t.regex(error(memory.stdout).advice, /--mib/);

  const robbed = sandbox.start(LONG);
  process.kill(await workerStarted(robbed.child.pid!), 'SIGKILL');
  const { code, stdout } = await robbed.ended;
  t.is(code, 1);
  t.is(error(stdout).code, 'SLUICE_E_WORKER_DIED');
  t.notRegex(error(stdout).advice, /checkpoint|resume/);
});
