/** Runs on hosts that a stand-in for ssh starts on this machine: agents, workers on two of them, encrypted connections. */

import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cudaDriver } from '@sluice/engine';
import test from 'ava';
import { descendants, isAgent } from '../../launcher/src/operate/processes.ts';
import { isGone } from './support/processes.ts';
import { Sandbox } from './support/sandbox.ts';

interface Trained {
  readonly step: number;
  readonly weightsHash: string;
}

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

// Runs the remote command here, as ssh's own shell would there.
const ssh = sandbox.write('ssh', '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nexec sh -c "$3"\n');
chmodSync(ssh, 0o755);
sandbox.write('hosts', 'h1 address=127.0.0.1\nh2 address=127.0.0.1 slots=2\n');
// A worker on each.
sandbox.write('singles', 'h1 address=127.0.0.1 slots=1\nh2 address=127.0.0.1 slots=1\n');
sandbox.write('refusing-ssh', '#!/bin/sh\necho "Permission denied (publickey)." >&2\nexit 255\n');
chmodSync(join(sandbox.path, 'refusing-ssh'), 0o755);

const sizes = '--set training.steps=40 --set checkpoint.everySteps=10 --threads 1';
// Left to itself, how often is a matter of time.
const copies = '--set faults.bufferEverySteps=1';
const launch = (directory: string, placement = 'ssh:singles --workers 2') =>
  `launch moe.yaml --on ${placement} --ssh-command ${ssh} --listen tcp://127.0.0.1:0 ${sizes} ${copies} --run-dir ${directory}`;
const FOUR = 'ssh:hosts --workers 4';
let quietHash = '';

test.before(async () => {
  quietHash = (await sandbox.json<Trained>(`train moe.yaml ${sizes} --run-dir quiet`)).weightsHash;
});

test.serial(
  'four workers on two hosts, two of which share experts, come to the weights of one',
  async (t) => {
    const run = sandbox.start(`${launch('two-hosts', FOUR)} --expert-parallel 2 --json`);
    const { code, stdout, stderr } = await run.ended;
    t.is(code, 0, stderr);
    t.is((JSON.parse(stdout) as Trained).weightsHash, quietHash);
    t.regex(stderr, /h2 has joined \(127\.0\.0\.1/);
    const shards = readFileSync(
      join(sandbox.path, 'two-hosts/checkpoints/step-00000040/manifest.json'),
      'utf8',
    );
    t.regex(
      shards,
      /shard-00003\.[0-9a-f]{8}\.safetensors/,
      'shards name the group of workers that wrote them',
    );
  },
);

test.serial(
  'a host whose agent is killed comes again, and the run goes on to the same weights',
  async (t) => {
    const run = sandbox.start(`${launch('agent-killed')} --json`);
    await run.shown('saved step 10');
    const agents = descendants(run.child.pid!).filter(isAgent);
    t.true(agents.length >= 2);
    process.kill(agents.at(-1)!.pid, 'SIGKILL');
    const { code, stdout, stderr } = await run.ended;
    t.is(code, 0, stderr);
    t.is((JSON.parse(stdout) as Trained).weightsHash, quietHash);
    t.regex(stderr, /going on by itself from step \d+/);
  },
);

test.serial(
  'SIGTERM saves, ends with 75, leaves no process; the same command goes on to the end',
  async (t) => {
    const command = `${launch('stopped')} --json`;
    const run = sandbox.start(command);
    await run.shown('saved step 10');
    const processes = descendants(run.child.pid!).map(({ pid }) => pid);
    run.child.kill('SIGTERM');
    const stopped = await run.ended;
    t.is(stopped.code, 75, stopped.stderr);
    for (const pid of processes) t.true(await isGone(pid));
    const again = await sandbox.start(command).ended;
    t.is(again.code, 0, again.stderr);
    t.is((JSON.parse(again.stdout) as Trained).weightsHash, quietHash);
    t.is((await sandbox.start(command).ended).code, 0, 'a run that is done stays done');
  },
);

test.serial('what a host cannot be started for is said, with exit code 1', async (t) => {
  const command = launch('refused').replace(ssh, join(sandbox.path, 'refusing-ssh'));
  const { code, stdout } = await sandbox.start(`${command} --json`).ended;
  t.is(code, 1);
  const { error } = JSON.parse(stdout) as { error: { code: string; message: string } };
  t.is(error.code, 'SLUICE_E_SSH_FAILED');
  t.regex(error.message, /h[12]: .*no key of yours is accepted there.*Permission denied/);
  const missing = await sandbox.start(`${launch('refused').replace(ssh, '/no/such/ssh')} --json`).ended;
  t.regex(
    JSON.parse(missing.stdout).error.message,
    /h[12]: .*\/no\/such\/ssh cannot be started here: ENOENT$/,
  );
});

test.serial('what one host’s worker cannot do is told with its host, to the agents, too', async (t) => {
  const unlike = '#!/bin/sh\ncase "$*" in *h2*) SLUICE_CUDA=none;; esac\n';
  const uneven = sandbox.write('uneven-ssh', `${unlike}exec ${ssh} "$@"\n`);
  chmodSync(uneven, 0o755);
  const command = launch('uneven').replace(ssh, uneven);
  const run = sandbox.start(`${command} --set backend=cuda --json`, { SLUICE_CUDA: 'emulated' });
  const { code, stdout, stderr } = await run.ended;
  t.is(code, 1);
  const { error } = JSON.parse(stdout) as {
    error: { code: string; message: string; details: { failedRanks: number[]; hosts: string[] } };
  };
  t.is(error.code, 'SLUICE_E_BACKEND_MISSING');
  t.regex(error.message, /^Worker 1 on h2: .*SLUICE_CUDA is "none"/);
  t.like(error.details, { failedRanks: [1], hosts: ['h2'] });
  t.regex(stderr, /h1.*ending with exit code 1: Worker 1 on h2: .*SLUICE_CUDA is "none"/);
});

test.serial('a host that would compute something else is not waited for when a run begins', async (t) => {
  const unlike = '#!/bin/sh\ncase "$*" in *h2*) export SLUICE_BUILD_DIR=/no/such/core;; esac\n';
  const other = sandbox.write('other-ssh', `${unlike}exec ${ssh} "$@"\n`);
  chmodSync(other, 0o755);
  const { code, stdout } = await sandbox.start(`${launch('other').replace(ssh, other)} --json`).ended;
  t.is(code, 2);
  t.like(JSON.parse(stdout).error, { code: 'SLUICE_E_HOST_DIFFERS', details: { node: 'h2' } });
});

test.serial(
  'a host whose name only ssh knows needs the number by which it reaches this machine',
  async (t) => {
    sandbox.write('aliases', 'no..such..host\n');
    const { code, stdout } = await sandbox.start('launch moe.yaml --on ssh:aliases --json').ended;
    t.is(code, 2);
    const { error } = JSON.parse(stdout) as { error: { code: string; message: string; advice: string } };
    t.is(error.code, 'SLUICE_E_ADDRESS_UNREACHABLE');
    t.regex(error.message, /no\.\.such\.\.host does not resolve here/);
    t.regex(error.advice, /--advertise/);
  },
);

test.serial('a mistake in what is asked for ends with 2, which no scheduler tries again', async (t) => {
  for (const command of [
    'launch moe.yaml --on ssh:nohosts',
    'launch moe.yaml --on elsewhere',
    'launch moe.yaml --set training.steps=many',
    'agent --join tcp://127.0.0.1:1 --key-file nokey',
    'agent',
  ]) {
    t.is((await sandbox.start(command).ended).code, 2, command);
  }
});

test.serial('a changed configuration does not go on in silence', async (t) => {
  const { code, stdout } = await sandbox.start(`${launch('stopped')} --set optimizer.learningRate=1 --json`)
    .ended;
  t.is(code, 2);
  t.is((JSON.parse(stdout) as { error: { code: string } }).error.code, 'SLUICE_E_RESUME_NEEDS_ALLOW');
});

test.serial('a dry run says what would be started on which host, and starts nothing', async (t) => {
  const { stdout } = await sandbox.start(`${launch('planned', FOUR)} --metrics-port 9400 --dry-run --json`)
    .ended;
  const plan = JSON.parse(stdout) as {
    workers: number;
    hosts: { host: string; ranks: number[]; words: string[] }[];
  };
  t.is(plan.workers, 4);
  t.deepEqual(
    plan.hosts.map(({ host, ranks }) => [host, ranks]),
    [
      ['h1', [0, 1]],
      ['h2', [2, 3]],
    ],
  );
  t.regex(plan.hosts[0]!.words.at(-1)!, /^exec node .*sluice\.js agent --stdio --metrics-port 9401$/);
});

test.serial('hosts of the configuration serve as those of the command line, which goes first', async (t) => {
  const hosts =
    '{ on: ssh, list: [{ name: h1, address: 127.0.0.1, slots: 1 }, { name: h2, address: 127.0.0.1, slots: 1 }] }';
  sandbox.write('hosted.yaml', `extends: moe.yaml\nhosts: ${hosts}\n`);
  const flags = `--ssh-command ${ssh} --listen tcp://127.0.0.1:0 ${sizes} --workers 2 --run-dir hosted`;
  const plan = await sandbox.json<{ saidBy: string; hosts: unknown[] }>(
    `launch hosted.yaml ${flags} --dry-run`,
  );
  t.is(plan.saidBy, 'hosted.yaml');
  t.is(plan.hosts.length, 2);
  const stopped = await sandbox.start(`launch hosted.yaml ${flags} --until-step 10`).ended;
  t.is(stopped.code, 0, stopped.stderr);
  t.regex(stopped.stderr, /h2 has joined/);
  // Where a run goes on is no part of what it computes.
  const elsewhere = '--on local --set hosts.list=null --set hosts.on=agents --set hosts.nodes=2';
  const command = `launch hosted.yaml --run-dir hosted ${sizes} ${elsewhere} --json`;
  const { code, stdout, stderr } = await sandbox.start(command).ended;
  t.is(code, 0, stdout + stderr);
  t.is((JSON.parse(stdout) as Trained).weightsHash, quietHash);
});

test.serial(
  'collective operations are measured between hosts, placed and connected as in a run',
  async (t) => {
    const bench = `bench collectives --hosts singles --ssh-command ${ssh} --mib 0.25 --json`;
    const measured = await sandbox.json<Record<string, unknown>>(bench.replace(' --json', ''));
    t.like(measured, { operation: 'allReduce', world: 2, mib: 0.25, transport: 'tcp' });
    t.deepEqual(measured.hosts, [
      { name: 'h1', workers: 1 },
      { name: 'h2', workers: 1 },
    ]);
    t.true((measured.busGBps as number) > 0);
    const { code, stdout } = await sandbox.start(`${bench} --world 3`).ended;
    t.is(code, 1);
    t.is(JSON.parse(stdout).error.code, 'SLUICE_E_HOSTS_TOO_FEW');
    t.regex(JSON.parse(stdout).error.advice, /--world/);
    sandbox.write('lonely', 'h1 address=127.0.0.1\n');
    const lonely = await sandbox.start(bench.replace('singles', 'lonely')).ended;
    t.is(lonely.code, 2);
    t.regex(JSON.parse(lonely.stdout).error.message, /--hosts names one host, h1/);
  },
);

const withoutGpu = 'absence' in cudaDriver() ? test.serial : test.serial.skip;

withoutGpu(
  'whether there is a GPU is asked of the hosts that compute, not of the one that launches',
  async (t) => {
    const command = `${launch('no-gpu')} --set backend=cuda precision=f32 --json`;
    const { code, stdout, stderr } = await sandbox.start(command, { SLUICE_CUDA: '' }).ended;
    t.is(code, 1);
    t.is(JSON.parse(stdout).error.code, 'SLUICE_E_BACKEND_DEVICES');
    t.regex(stderr, /h2 has joined/);
  },
);
