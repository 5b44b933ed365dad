import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generateCurveKeys } from '@sluice/collectives';
import test from 'ava';
import { freePort } from '../../launcher/src/fleet/address.ts';
import type { Running } from '../support/running.ts';
import { workersOf } from './support/processes.ts';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

/** Two agents as a scheduler starts them: the same words on each node, its variables apart. */
async function startOnTwoNodes(config: string, runDir: string): Promise<Running[]> {
  const address = `tcp://127.0.0.1:${await freePort()}`;
  writeFileSync(join(sandbox.path, `${runDir}.key`), JSON.stringify(generateCurveKeys()), { mode: 0o600 });
  const words = `agent --lead ${config} --run-dir ${runDir} --key-file ${runDir}.key --join ${address}`;
  return [0, 1].map((rank) =>
    sandbox.start(`${words} --node n${rank}`, { SLUICE_NODE_RANK: String(rank), SLUICE_NODES: '2' }),
  );
}

test('a first node that is asked to stop before its coordinator is there has that stop too, to come again', async (t) => {
  writeFileSync(join(sandbox.path, 'early.key'), JSON.stringify(generateCurveKeys()), { mode: 0o600 });
  const place = `--node-rank 0 --nodes 2 --join tcp://127.0.0.1:${await freePort()} --metrics-port 0`;
  const agent = sandbox.start(`agent --lead dense.yaml --run-dir early --key-file early.key ${place}`);
  await agent.shown('metrics for Prometheus');
  agent.child.kill('SIGUSR1');
  const { code, stderr } = await agent.ended;
  t.is(code, 75, stderr);
  t.regex(stderr, /SLUICE_E_INTERRUPTED/);
});

async function onTwoNodes(config: string, runDir: string) {
  const agents = await startOnTwoNodes(config, runDir);
  return Promise.all(agents.map(({ ended }) => ended));
}

/** Rings of shared memory that a process has mapped, its own among them. */
function ringsOf(pid: number): string[] {
  const maps = readFileSync(`/proc/${pid}/maps`, 'utf8').match(/\/dev\/shm\/sluice-ring-\S+/g);
  return [...new Set(maps)].sort();
}

test('the same command on each node trains a run, to the bits of one machine', async (t) => {
  const quiet = await sandbox.json('train dense.yaml --workers 2 --run-dir quiet');
  const ended = await onTwoNodes('dense.yaml', 'nodes');
  t.deepEqual(
    ended.map(({ code }) => code),
    [0, 0],
    ended.map(({ stderr }) => stderr).join('\n'),
  );
  const { weights } = await sandbox.json('hash nodes');
  t.is(weights, quiet.weightsHash);
});

test('workers of one node share its memory, those of others none of it, and the bits are those of one machine', async (t) => {
  const quiet = await sandbox.json('train moe.yaml --run-dir alone --threads 1 --set training.steps=24');
  sandbox.write(
    'four.yaml',
    'extends: moe.yaml\ntraining: { steps: 24 }\nparallel: { workers: 4, expertParallel: 2, threads: 1 }\n',
  );
  const agents = await startOnTwoNodes('four.yaml', 'four');
  await agents[0]!.shown('saved step 4');
  const rings = agents.map(({ child }) => workersOf(child.pid!).map(ringsOf));
  // The coordinator, a child of the first agent, has none.
  for (const [first, second] of rings) {
    t.is(first!.length, 2);
    t.deepEqual(first, second);
  }
  t.notDeepEqual(rings[0], rings[1]);
  const ended = await Promise.all(agents.map(({ ended }) => ended));
  t.deepEqual(
    ended.map(({ code }) => code),
    [0, 0],
    ended.map(({ stderr }) => stderr).join('\n'),
  );
  const { weights } = await sandbox.json('hash four');
  t.is(weights, quiet.weightsHash);
});

test('a mistake in the configuration ends the agents of all nodes with the code that says so', async (t) => {
  sandbox.write('unreadable.yaml', 'seed: 7\nmodle: {}\n');
  sandbox.write('indivisible.yaml', 'extends: dense.yaml\nparallel: { workers: 3 }\n');
  for (const config of ['unreadable.yaml', 'indivisible.yaml']) {
    const ended = await onTwoNodes(config, `of-${config}`);
    t.deepEqual(
      ended.map(({ code }) => code),
      [2, 2],
      ended.map(({ stderr }) => stderr).join('\n'),
    );
    t.regex(ended[1]!.stderr, /ending with exit code 2: .*(modle|workers)/s);
  }
});
