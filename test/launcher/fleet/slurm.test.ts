import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import {
  type SlurmPlan,
  type SlurmRun,
  slurmScript,
  submitToSlurm,
} from '../../../launcher/src/fleet/starters/slurm.ts';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';
import { standInPrograms } from './support/standInPrograms.ts';

const RUN: SlurmRun = { config: '/s/train.yaml', runDir: '/s/runs/train', keyFile: '/s/keys/train.json' };
const PLAN: SlurmPlan = { name: 'train', program: ['/opt/node', '/s/sluice.js'], runs: [RUN], nodes: 2 };

/** The options in the head of a script. */
const optionsOf = (script: string) => [...script.matchAll(/^#SBATCH (.*)$/gm)].map(([, option]) => option!);

/** srun: writes down what it was called with; ends with `exit`, or with `onUsr1` once it was sent USR1. */
const SRUN = `
printf '%s\\n' "$SLUICE_INCARNATION" > "$FAKE/incarnation"
printf '%s\\0' "$@" > "$FAKE/srun"
[ -n "$NEW_CHECKPOINT" ] && mkdir -p "$NEW_CHECKPOINT" && touch "$NEW_CHECKPOINT/manifest.json"
trap 'sleep 0.2; echo saved; exit 75' USR1
if [ -n "$EXIT" ]; then exit "$EXIT"; fi
touch "$FAKE/started"
while :; do sleep 0.05; done`;

/** Slurm ends a script that puts its own job into the queue again. */
const SCONTROL = `
printf '%s\\n' "$*" >> "$FAKE/scontrol"
kill -TERM "$PPID"`;

interface Job {
  readonly directory: string;
  readonly child: ChildProcess;
  readonly output: Promise<string>;
  readonly ended: Promise<number | NodeJS.Signals>;
  /** What was written down about a program; undefined where it was not called. */
  record(name: string): string | undefined;
}

/** Runs a script as Slurm's daemon would, with programs that stand in for srun and scontrol. */
function runJob(t: ExecutionContext, plan: SlurmPlan, env: Readonly<Record<string, string>> = {}): Job {
  const directory = temporaryDirectory(t);
  const script = join(directory, 'job.sh');
  writeFileSync(script, slurmScript(plan));
  const child = spawn('bash', [script], {
    env: {
      PATH: standInPrograms(directory, { srun: SRUN, scontrol: SCONTROL }),
      FAKE: directory,
      EXIT: '',
      NEW_CHECKPOINT: '',
      SLURM_JOB_ID: '41',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  return {
    directory,
    child,
    output: text(child.stdout),
    ended: new Promise((resolve) => child.once('exit', (code, signal) => resolve(signal ?? code!))),
    record: (name) =>
      existsSync(join(directory, name)) ? readFileSync(join(directory, name), 'utf8') : undefined,
  };
}

async function untilStarted(job: Job): Promise<void> {
  while (!existsSync(join(job.directory, 'started'))) await new Promise((resolve) => setTimeout(resolve, 20));
}

test('a plan of few words: whole nodes, one task each, a signal before the limit, the job may be queued again', (t) => {
  t.deepEqual(optionsOf(slurmScript(PLAN)), [
    '--job-name=sluice-train',
    '--nodes=2',
    '--ntasks-per-node=1',
    '--mem=0',
    '--signal=B:USR1@300',
    '--open-mode=append',
    '--output=/s/runs/train/slurm/%x-%j.out',
    '--exclusive',
    '--requeue',
  ]);
});

test('what a user wants of the nodes is asked for', (t) => {
  const options = optionsOf(
    slurmScript({
      ...PLAN,
      timeLimit: '2-00:00:00',
      graceSeconds: 600,
      partition: 'gpu',
      account: 'lab',
      qos: 'high',
      constraint: 'a100&ib',
      exclude: 'n[1-3]',
      gpusPerNode: 'a100:4',
      cpusPerNode: 16,
      memory: '64G',
      sbatch: ['--mail-type=FAIL', '-M all'],
    }),
  );
  for (const option of [
    '--time=2-00:00:00',
    '--signal=B:USR1@600',
    '--partition=gpu',
    '--account=lab',
    '--qos=high',
    '--constraint=a100&ib',
    '--exclude=n[1-3]',
    '--gpus-per-node=a100:4',
    '--cpus-per-task=16',
    '--mem=64G',
    '--mail-type=FAIL',
    '-M all',
  ]) {
    t.true(options.includes(option), `${option} in ${options.join(' ')}`);
  }
  t.false(options.includes('--exclusive'));
});

test('the agents are started as they are meant to be, whatever is in their words', async (t) => {
  const runs = [{ config: "/s/it's $HOME.yaml", runDir: '/s/a b', keyFile: '/s/`k`' }];
  const program = ['/opt/my node/node', '/s/sluice.js'];
  const job = runJob(t, { ...PLAN, program, runs, cpusPerNode: 8 }, { EXIT: '0' });
  t.is(await job.ended, 0);
  const words = job.record('srun')!.split('\0').slice(0, -1);
  t.deepEqual(words.slice(words.indexOf(program[0]!)), [
    ...program,
    'agent',
    '--lead',
    runs[0]!.config,
    '--run-dir',
    runs[0]!.runDir,
    '--key-file',
    runs[0]!.keyFile,
  ]);
  t.true(words.includes('--ntasks-per-node=1'));
  t.true(words.includes('--cpus-per-task=8'));
});

test('a run that is done ends the job', async (t) => {
  const job = runJob(t, PLAN, { EXIT: '0' });
  t.is(await job.ended, 0);
  t.is(job.record('scontrol'), undefined);
});

test('a run that was stopped early and saved is put into the queue again', async (t) => {
  const job = runJob(t, PLAN, { EXIT: '75' });
  t.is(await job.ended, 'SIGTERM');
  t.is(job.record('scontrol'), 'requeue 41\n');
  t.regex(await job.output, /saved; restart 1 of at most 100/);
});

for (const code of [1, 2, 74, 137]) {
  test(`a run that ended with ${code} is not: somebody has to look first`, async (t) => {
    const job = runJob(t, PLAN, { EXIT: String(code) });
    t.is(await job.ended, code);
    t.is(job.record('scontrol'), undefined);
  });
}

test('a run that lost an agent on the way, and was saved, goes on', async (t) => {
  const runDir = temporaryDirectory(t);
  mkdirSync(join(runDir, 'checkpoints/step-00000001'), { recursive: true });
  writeFileSync(join(runDir, 'checkpoints/step-00000001/manifest.json'), '{}');
  const plan = { ...PLAN, runs: [{ ...RUN, runDir }] };
  const NEW_CHECKPOINT = join(runDir, 'checkpoints/step-00000002');
  const job = runJob(t, plan, { EXIT: '137', NEW_CHECKPOINT });
  t.is(await job.ended, 'SIGTERM');
  t.is(job.record('scontrol'), 'requeue 41\n');
  // The next start gains nothing.
  t.is(await runJob(t, plan, { EXIT: '137' }).ended, 137);
});

test('restarts have a bound, and are counted by Slurm', async (t) => {
  const plan = { ...PLAN, requeues: 3 };
  const within = runJob(t, plan, { EXIT: '75', SLURM_RESTART_COUNT: '2' });
  t.is(await within.ended, 'SIGTERM');
  const beyond = runJob(t, plan, { EXIT: '75', SLURM_RESTART_COUNT: '3' });
  t.is(await beyond.ended, 75);
  t.is(beyond.record('scontrol'), undefined);
  t.regex(await beyond.output, /restarted 3 times already; submit this script again/);
});

test('the signal before the time limit reaches the agents, and the script waits until they have saved', async (t) => {
  const job = runJob(t, PLAN);
  await untilStarted(job);
  job.child.kill('SIGUSR1');
  t.is(await job.ended, 'SIGTERM');
  t.regex(await job.output, /^saved\n/);
  t.is(job.record('scontrol'), 'requeue 41\n');
});

test('a job that its user cancels saves, and does not come back', async (t) => {
  const job = runJob(t, PLAN);
  await untilStarted(job);
  job.child.kill('SIGTERM');
  t.is(await job.ended, 75);
  t.regex(await job.output, /^saved\n/);
  t.is(job.record('scontrol'), undefined);
});

test('each start has a greater incarnation than all before it', async (t) => {
  const first = runJob(t, PLAN, { EXIT: '0' });
  const second = runJob(t, PLAN, { EXIT: '0', SLURM_RESTART_COUNT: '11' });
  await Promise.all([first.ended, second.ended]);
  t.is(first.record('incarnation'), '41.0\n');
  t.is(second.record('incarnation'), '41.11\n');
});

test('of an array, each task runs its own, and puts only itself into the queue again', async (t) => {
  const runs = [0, 1, 2].map((n) => ({ config: `/s/c ${n}`, runDir: `/s/r${n}`, keyFile: `/s/k${n}` }));
  const plan = { ...PLAN, runs, runsAtOnce: 2 };
  const options = optionsOf(slurmScript(plan));
  t.true(options.includes('--array=0-2%2'));
  t.true(options.includes('--output=/s/r0/slurm/%x-%A_%a.out'));
  // The last task of an array has the array's own number.
  const array = { SLURM_ARRAY_JOB_ID: '41', SLURM_ARRAY_TASK_ID: '2', EXIT: '75' };
  const job = runJob(t, plan, array);
  t.is(await job.ended, 'SIGTERM');
  t.is(job.record('scontrol'), 'requeue 41_2\n');
  const words = job.record('srun')!.split('\0');
  t.is(words[words.indexOf('--lead') + 1], '/s/c 2');
  t.is(words[words.indexOf('--run-dir') + 1], '/s/r2');
  t.is(words[words.indexOf('--key-file') + 1], '/s/k2');
});

const REFUSED: Readonly<Record<string, readonly [Partial<SlurmPlan>, RegExp]>> = {
  'no run': [{ runs: [] }, /no run/],
  'no nodes': [{ nodes: 0 }, /nodes is 0/],
  'half a core': [{ cpusPerNode: 0.5 }, /cores is 0\.5/],
  'a time that is none': [{ timeLimit: 'tomorrow' }, /"tomorrow"/],
  'a limit that leaves no time before the signal': [{ timeLimit: '5' }, /limit is 5.*300 s/],
  'a grace that Slurm cannot keep': [{ graceSeconds: 70_000 }, /70000 s.*65535/],
  'a partition of two lines': [{ partition: 'a\n#SBATCH --uid=0' }, /partition is "a\\n/],
  'an empty account': [{ account: '' }, /account is ""/],
  'a further option that is none': [{ sbatch: ['rm -rf /'] }, /"rm -rf \/" is no option/],
  'a negative bound of restarts': [{ requeues: -1 }, /restarts is -1/],
};

for (const [title, [change, message]] of Object.entries(REFUSED)) {
  test(`refused: ${title}`, (t) => {
    t.throws(() => slurmScript({ ...PLAN, ...change }), { code: 'SLUICE_E_STARTER_INVALID', message });
  });
}

test('every form of a time that Slurm knows is understood', (t) => {
  for (const timeLimit of ['6', '5:01', '0:05:01', '0-1', '0-0:6', '1-00:00:00', '120:00:00']) {
    t.notThrows(() => slurmScript({ ...PLAN, timeLimit }), timeLimit);
  }
  for (const timeLimit of ['4', '5:00', '0:05:00', '0-0:5', '0-0:4:59']) {
    t.throws(() => slurmScript({ ...PLAN, timeLimit }), { code: 'SLUICE_E_STARTER_INVALID' }, timeLimit);
  }
});

/** Submits with a `sbatch` of the given body; one test at a time, since the PATH is the process's. */
async function submitWith(t: ExecutionContext, bodies: Record<string, string>) {
  const directory = temporaryDirectory(t);
  const path = process.env.PATH;
  const runDir = join(directory, 'run');
  process.env.PATH =
    bodies.sbatch === undefined ? join(directory, 'bin') : standInPrograms(directory, bodies);
  try {
    return { runDir, submission: await submitToSlurm({ ...PLAN, runs: [{ ...RUN, runDir }] }) };
  } finally {
    process.env.PATH = path;
  }
}

test.serial('submitting leaves the script with the run, and tells the number of the job', async (t) => {
  const { runDir, submission } = await submitWith(t, { sbatch: 'cat "$2" > "$2.seen"; echo "4711;cluster"' });
  t.deepEqual(submission, {
    jobId: '4711',
    script: join(runDir, 'slurm/job.sh'),
    output: join(runDir, 'slurm/%x-%j.out'),
  });
  t.is(readFileSync(`${submission.script}.seen`, 'utf8'), readFileSync(submission.script, 'utf8'));
});

test.serial('what sbatch says against a script is told', async (t) => {
  const refusal = 'echo "sbatch: error: invalid partition specified: gpu" >&2; exit 1';
  const code = 'SLUICE_E_STARTER_REFUSED';
  await t.throwsAsync(submitWith(t, { sbatch: refusal }), {
    code,
    message: /ended with 1:\n {2}sbatch: error: inv/,
  });
  await t.throwsAsync(submitWith(t, { sbatch: 'echo hello' }), { code, message: /"hello\\n"/ });
});

test.serial('a machine without sbatch is told apart from one that refuses', async (t) => {
  await t.throwsAsync(submitWith(t, {}), {
    code: 'SLUICE_E_STARTER_MISSING',
    message: /sbatch is not on the PATH/,
  });
});
