/**
 * Hosts that do not see each other's files: each process has a working directory of its own, and the run lies below
 * /proc/self/cwd, which is another place for each of them.
 */

import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { freePort } from '../../launcher/src/fleet/address.ts';
import { descendants, isWorker } from '../../launcher/src/operate/processes.ts';
import type { Running } from '../support/running.ts';
import { Sandbox } from './support/sandbox.ts';

interface Trained {
  readonly step: number;
  readonly weightsHash: string;
}

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

const RUN = '/proc/self/cwd/run';
const sizes = '--set training.steps=40 --set checkpoint.everySteps=10 --threads 1';
let quietHash = '';

test.before(async () => {
  quietHash = (await sandbox.json<Trained>(`train moe.yaml ${sizes} --run-dir quiet`)).weightsHash;
});

/** A working directory of its own, with its own temporary files and corpora. */
function apart(name: string): { cwd: string; environment: NodeJS.ProcessEnv } {
  const cwd = join(sandbox.path, name);
  for (const folder of ['tmp', 'data']) mkdirSync(join(cwd, folder), { recursive: true });
  return { cwd, environment: { TMPDIR: join(cwd, 'tmp'), SLUICE_DATA: join(cwd, 'data') } };
}

async function onHostsApart(name: string) {
  const where = `tcp://127.0.0.1:${await freePort()}`;
  const key = join(sandbox.path, `${name}.key`);
  await sandbox.start(`key ${key}`).ended;
  const startAgent = (node: string): Running => {
    const { cwd, environment } = apart(`${name}-${node}`);
    return sandbox.start(`agent --join ${where} --key-file ${key} --node ${node}`, environment, cwd);
  };
  const { cwd, environment } = apart(`${name}-coordinator`);
  const command = `launch ${join(sandbox.path, 'moe.yaml')} --on agents --nodes 2 --listen ${where} --key-file ${key} --run-dir ${RUN} ${sizes} --workers 2 --expert-parallel 2 --json`;
  const launch = (flags = '') => sandbox.start(`${command}${flags}`, environment, cwd);
  return { startAgent, launch, folder: (host: string) => join(sandbox.path, `${name}-${host}`) };
}

test('checkpoints and corpus go through the coordinator, also when a worker dies and when the run goes on', async (t) => {
  const { startAgent, launch, folder } = await onHostsApart('apart');
  const agents = ['h1', 'h2'].map(startAgent);
  // Without copies in memory, a restart needs the checkpoint.
  const first = launch(' --collect --set faults.bufferEverySteps=0 --until-step 30');
  await first.shown('saved step 10');
  const [victim] = descendants(agents[1]!.child.pid!).filter(isWorker);
  process.kill(victim!.pid, 'SIGKILL');
  const stopped = await first.ended;
  t.is(stopped.code, 0, stopped.stderr);
  t.regex(stopped.stderr, /bringing the corpus tiny to h1, which does not have it/);
  t.regex(stopped.stderr, /going on by itself from step 10/);
  for (const agent of agents) await agent.ended;
  for (const host of ['h1', 'h2']) {
    t.false(existsSync(join(folder(host), 'run')), 'nothing of the run is written where it is not');
    t.deepEqual(
      readdirSync(join(folder(host), 'tmp')).filter((name) => name.startsWith('sluice-collected')),
      [],
    );
    t.deepEqual(readdirSync(join(folder(host), 'data', 'prepared')), ['tiny']);
  }
  for (const host of ['h1', 'h2']) startAgent(host);
  const { code, stdout, stderr } = await launch(' --set hosts.collect=true').ended;
  t.is(code, 0, stdout + stderr);
  t.regex(stderr, /going on from step 30/);
  t.notRegex(stderr, /bringing the corpus/, 'a host keeps what was brought');
  t.is((JSON.parse(stdout) as Trained).weightsHash, quietHash);
});

test('what a run begins with is brought too', async (t) => {
  const { startAgent, launch } = await onHostsApart('tuned');
  for (const host of ['h1', 'h2']) startAgent(host);
  const from = join(sandbox.path, 'quiet');
  const { code, stdout, stderr } = await launch(` --collect --set initialize.from=${from}`).ended;
  t.is(code, 0, stdout + stderr);
  const local = await sandbox.json<Trained>(`train moe.yaml ${sizes} --from quiet --run-dir tuned`);
  t.is((JSON.parse(stdout) as Trained).weightsHash, local.weightsHash);
});

test('a run directory that hosts do not see is told at the first checkpoint, with what to do', async (t) => {
  const { startAgent, launch, folder } = await onHostsApart('unseen');
  for (const host of ['h1', 'h2']) {
    startAgent(host);
    // They see the corpus.
    mkdirSync(join(folder(host), 'data'), { recursive: true });
  }
  const { code, stdout } = await launch().ended;
  t.not(code, 0);
  const { error } = JSON.parse(stdout) as { error: { code: string; message: string } };
  t.is(error.code, 'SLUICE_E_CHECKPOINT_INCOMPLETE');
  t.regex(error.message, /--collect/);
});
