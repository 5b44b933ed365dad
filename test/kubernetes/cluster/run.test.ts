/**
 * A run of three agents in pods, launched as docs/clusters.md says it, on a cluster of two nodes with kubelets of their own. However
 * it is hit, it ends by itself with the weights of a quiet run on one machine.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { Sandbox } from '../../e2e/support/sandbox.ts';
import { run } from '../../hosts/support/run.ts';
import { until } from '../../support/until.ts';
import { Cluster } from './support/cluster.ts';
import { IMAGE } from './support/image.ts';

const ROOT = realpathSync(fileURLToPath(new URL('../../..', import.meta.url)));
const PROGRAM = [process.execPath, join(ROOT, 'launcher/bin/sluice.js')];
const POD_USER = 1000;

let cluster: Cluster;
let sandbox: Sandbox;
let quietWeights: string;

test.before(async (t) => {
  t.timeout(600_000);
  const programs = process.env.SLUICE_KUBERNETES_PROGRAMS;
  if (!programs) throw new Error('npm run test:kubernetes -- --cluster builds the programs first.');
  sandbox = new Sandbox();
  sandbox.write(
    'run.yaml',
    'extends: dense.yaml\ntraining: { steps: 60 }\nparallel: { workers: 4, threads: 1 }\nfaults: { replacementSeconds: 1 }\n',
  );
  quietWeights = (await sandbox.json<{ weightsHash: string }>('train run.yaml')).weightsHash;
  run('chown', '-R', `${POD_USER}:${POD_USER}`, sandbox.path);
  cluster = await Cluster.up(2, programs);
});
test.after.always(async () => {
  await cluster?.down();
  sandbox?.dispose();
});

interface Pod {
  readonly metadata: { readonly name: string; readonly annotations: Readonly<Record<string, string>> };
  readonly spec: { readonly nodeName?: string };
  readonly status: { readonly phase: string; readonly podIP?: string };
}

/** What the pods see of the machine: the system's libraries, Node, Sluice, and the run's folder, all where the machine has them. */
function volumes(): object[] {
  const readOnly = ['/usr', '/lib', '/lib64', ROOT, dirname(dirname(process.execPath))];
  const own = readOnly.filter(
    (path, i) =>
      existsSync(path) && !readOnly.some((other, j) => j < i && `${path}/`.startsWith(`${other}/`)),
  );
  return [
    ...own.map((path) => ({ mountPath: path, hostPath: path, readOnly: true })),
    { mountPath: sandbox.path, hostPath: sandbox.path },
  ];
}

class Launched {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  get runDir(): string {
    return join(sandbox.path, this.name);
  }

  /** The pod of an index that has not ended. */
  async pod(index: number): Promise<Pod | undefined> {
    const { items } = await cluster.get<{ items: Pod[] }>('pods', '--selector', `job-name=${this.name}`);
    return items.find(
      ({ metadata, status }) =>
        metadata.annotations['batch.kubernetes.io/job-completion-index'] === String(index) &&
        (status.phase === 'Pending' || status.phase === 'Running'),
    );
  }

  /** All that the pods have written, but for those that are gone. */
  async logs(): Promise<string> {
    const words = ['--selector', `job-name=${this.name}`, '--prefix', '--tail=60'];
    const { stdout, stderr } = await cluster.kubectl('logs', ...words);
    const events = await cluster.kubectl('get', 'pods,events', '--output', 'wide');
    return `${stdout}${stderr}\n${events.stdout}`;
  }

  stepsDone(): number {
    const { status, stdout } = spawnSync('wc', ['-l', join(this.runDir, 'metrics.jsonl')], {
      encoding: 'utf8',
    });
    return status === 0 ? Number.parseInt(stdout, 10) : 0;
  }

  async reaches(step: number): Promise<void> {
    await until(`${this.name} has done ${step} steps`, async () => this.stepsDone() >= step);
  }
}

/** A run of its own in three pods. */
async function launch(t: ExecutionContext, name: string): Promise<Launched> {
  const run = new Launched(name);
  const settings = {
    image: IMAGE,
    program: PROGRAM,
    name,
    runDir: run.runDir,
    dataDir: join(sandbox.path, 'data'),
    config: join(sandbox.path, 'run.yaml'),
    volumes: volumes(),
    memory: '500M',
    sharedMemory: '200Mi',
    graceSeconds: 20,
  };
  const file = sandbox.write(`${name}.json.yaml`, JSON.stringify(settings));
  const words = ['launch', join(sandbox.path, 'run.yaml'), '--on', `kubernetes:${file}`, '--nodes', '3'];
  const { code, stdout, stderr } = await cluster.lab.exec('h1', [...PROGRAM, ...words], {
    cwd: sandbox.path,
    environment: cluster.environment,
  });
  t.is(code, 0, `${stdout}\n${stderr}`);
  return run;
}

interface Job {
  readonly status: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}

/**
 * Waits until the Job has that condition, and demands the weights of the quiet run. One whose coordinator is done has met its criteria
 * of success; it is complete when all of its pods have ended, which of those on a node that is out of reach nobody can tell.
 */
async function endsAsQuiet(
  t: ExecutionContext,
  run: Launched,
  condition: 'Complete' | 'SuccessCriteriaMet' = 'Complete',
): Promise<void> {
  const holds = async () => {
    const { status } = await cluster.get<Job>('job', run.name);
    return status.conditions?.some(({ status, type }) => status === 'True' && type === condition) ?? false;
  };
  try {
    await until(`${run.name} is ${condition}`, holds, 240);
  } catch (error) {
    t.fail(`${(error as Error).message}\n${await run.logs()}`);
  }
  t.is((await sandbox.json<{ weights: string }>(`hash ${run.runDir}`)).weights, quietWeights);
}

test.serial('pods on two nodes give the bits of one machine', async (t) => {
  t.timeout(400_000);
  const run = await launch(t, 'quiet');
  await run.reaches(1);
  const nodes = await Promise.all([0, 1, 2].map(async (index) => (await run.pod(index))?.spec.nodeName));
  t.deepEqual([...new Set(nodes)].sort(), [...cluster.nodes].sort());
  await endsAsQuiet(t, run);
});

test.serial('the coordinator’s pod is deleted: its successor goes on, to the same bits', async (t) => {
  t.timeout(400_000);
  const run = await launch(t, 'deleted');
  await run.reaches(10);
  const first = await run.pod(0);
  const start = performance.now();
  await cluster.kubectl('delete', 'pod', first!.metadata.name, '--wait=false');
  await until('a successor runs', async () => {
    const next = await run.pod(0);
    return (
      next !== undefined && next.metadata.name !== first!.metadata.name && next.status.phase === 'Running'
    );
  });
  t.log(`the successor runs after ${((performance.now() - start) / 1000).toFixed(1)} s`);
  await endsAsQuiet(t, run);
});

test.serial('a node is cut off: the run goes on without it, to the same bits', async (t) => {
  t.timeout(400_000);
  const run = await launch(t, 'cut');
  await run.reaches(10);
  const leader = (await run.pod(0))!.spec.nodeName;
  const cut = cluster.nodes.find((node) => node !== leader)!;
  const done = run.stepsDone();
  const start = performance.now();
  cluster.lab.cut(cut);
  await run.reaches(done + 5);
  t.log(`${((performance.now() - start) / 1000).toFixed(1)} s to the fifth step from then`);
  await endsAsQuiet(t, run, 'SuccessCriteriaMet');
  cluster.lab.heal(cut);
  await endsAsQuiet(t, run);
});
