/** Hosts whose agents outlive the coordinator keep what their workers had come to, and a new one goes on from there. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { freePort } from '../../launcher/src/fleet/address.ts';
import { readJournal } from '../../launcher/src/run/journal.ts';
import { Sandbox } from './support/sandbox.ts';

interface Trained {
  readonly step: number;
  readonly weightsHash: string;
}

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

const sizes = '--set training.steps=60 --set checkpoint.everySteps=50 --threads 1';

/** Steps that were recorded, in order. */
function stepsOf(runDir: string): number[] {
  try {
    const lines = readFileSync(join(sandbox.path, runDir, 'metrics.jsonl'), 'utf8')
      .trim()
      .split('\n');
    return lines.map((line) => (JSON.parse(line) as Trained).step);
  } catch {
    return [];
  }
}

/**
 * Of the step that was recorded last, copies may not have been made yet, and of the one before it, hosts may not have been told
 * that they are whole.
 */
const hasCopiesOf = (step: number, reached: number) => step >= reached - 2 && step <= reached;

async function onAgents(runDir: string) {
  const where = `tcp://127.0.0.1:${await freePort()}`;
  await sandbox.start(`key ${runDir}.key`).ended;
  const agents = ['h1', 'h2'].map((node) =>
    sandbox.start(`agent --join ${where} --key-file ${runDir}.key --node ${node}`),
  );
  const command = `launch moe.yaml --on agents --nodes 2 --listen ${where} --key-file ${runDir}.key --run-dir ${runDir} ${sizes} --set faults.bufferEverySteps=1 --json`;
  return { agents, command };
}

let quiet: Trained;
test.before(async () => {
  quiet = await sandbox.json<Trained>(`train moe.yaml ${sizes} --run-dir quiet`);
});

test.serial(
  'a new coordinator goes on from the copies in the hosts’ memory, on other workers, to the quiet run’s weights',
  async (t) => {
    const { agents, command } = await onAgents('lost');
    const first = sandbox.start(`${command} --workers 4 --expert-parallel 2`);
    while (stepsOf('lost').length < 20) await delay(10);
    first.child.kill('SIGKILL');
    await first.ended;
    const reached = stepsOf('lost').at(-1)!;
    const { code, stdout, stderr } = await sandbox.start(`${command} --workers 2`).ended;
    t.is(code, 0, stderr);
    const [resumed] = readJournal(join(sandbox.path, 'lost', 'journal.jsonl')).filter(
      (entry) => entry.kind === 'resume',
    );
    t.like(resumed, { fromMemory: true, checkpoint: undefined, workers: 2 });
    t.true(hasCopiesOf(resumed!.step, reached), `${resumed!.step} of ${reached}`);
    t.regex(stderr, new RegExp(`going on from step ${resumed!.step}, of which the hosts have copies`));
    t.is((JSON.parse(stdout) as Trained).weightsHash, quiet.weightsHash);
    t.deepEqual(
      stepsOf('lost'),
      Array.from({ length: 60 }, (_, i) => i + 1),
    );
    for (const agent of agents) t.is((await agent.ended).code, 0);
  },
);

test.serial(
  'sluice resume on one machine takes the copies of agents that look for a coordinator, and sends these home',
  async (t) => {
    const { agents, command } = await onAgents('alone');
    const first = sandbox.start(`${command} --workers 4 --expert-parallel 2`);
    while (stepsOf('alone').length < 20) await delay(10);
    first.child.kill('SIGKILL');
    await first.ended;
    const reached = stepsOf('alone').at(-1)!;
    const { code, stdout, stderr } = await sandbox.start('resume alone --workers 2 --json').ended;
    t.is(code, 0, stderr);
    const [resumed] = readJournal(join(sandbox.path, 'alone', 'journal.jsonl')).filter(
      (entry) => entry.kind === 'resume',
    );
    t.like(resumed, { fromMemory: true, checkpoint: undefined, workers: 2 });
    t.true(hasCopiesOf(resumed!.step, reached), `${resumed!.step} of ${reached}`);
    t.is((JSON.parse(stdout) as Trained).weightsHash, quiet.weightsHash);
    for (const agent of agents) {
      const { code, stderr } = await agent.ended;
      t.is(code, 0);
      t.regex(stderr, /ending with exit code 0: the run goes on on .* alone/);
    }
  },
);
