/** Interruptions of every kind: what was saved is found again, and the run goes on to the same bits. */

import { readdirSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { memoryOf } from '@sluice/train';
import test from 'ava';
import { isGone, workersOf } from './support/processes.ts';
import { Sandbox } from './support/sandbox.ts';

interface Trained {
  readonly step: number;
  readonly weightsHash: string;
}

interface Failed {
  readonly error: { readonly code: string; readonly message: string };
}

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

/** Long enough that a signal arrives in the middle. */
const train = 'train moe.yaml --set training.steps=60 --set checkpoint.everySteps=10 --threads 1 --run-dir';
let quietHash = '';

test.before(async () => {
  quietHash = (await sandbox.json<Trained>(`${train} quiet`)).weightsHash;
});

test.serial('Ctrl-C saves, says where, exits 0, and resuming gives the quiet run’s weights', async (t) => {
  const run = sandbox.start(`${train} interrupted --workers 2`);
  await run.shown('saved step 10');
  run.child.kill('SIGINT');
  const { code, stderr } = await run.ended;
  t.is(code, 0);
  t.regex(stderr, /saved step \d+: .*interrupted\/checkpoints\/step-/);
  const resumed = await sandbox.json<Trained>('resume interrupted --workers 1');
  t.is(resumed.step, 60);
  t.is(resumed.weightsHash, quietHash);
});

test.serial(
  'a killed worker is replaced, and the run goes on by itself to the quiet run’s weights',
  async (t) => {
    const run = sandbox.start(`${train} healed --workers 2 --json`);
    for (const saved of ['saved step 10', 'saved step 30']) {
      await run.shown(saved);
      process.kill(workersOf(run.child.pid!)[1]!, 'SIGKILL');
    }
    const { code, stdout, stderr } = await run.ended;
    t.is(code, 0, stderr);
    t.is((JSON.parse(stdout) as Trained).weightsHash, quietHash);
    t.is(stderr.match(/ended by signal SIGKILL/g)?.length, 2);
    t.regex(stderr, /going on by itself from step 10/);
    const steps = readFileSync(join(sandbox.path, 'healed', 'metrics.jsonl'), 'utf8')
      .trim()
      .split('\n');
    t.deepEqual(
      steps.map((line) => (JSON.parse(line) as Trained).step),
      Array.from({ length: 60 }, (_, i) => i + 1),
    );
  },
);

test.serial(
  'a run whose copies in memory are gone when it needs them goes on from its checkpoint',
  async (t) => {
    const run = sandbox.start(`${train} forgotten --workers 2 --json --set faults.bufferEverySteps=1`);
    await run.shown('saved step 10');
    await run.shown('12/60');
    // While it stands still, nothing puts them back.
    run.child.kill('SIGSTOP');
    await delay(1000);
    const memory = memoryOf(run.child.pid!);
    for (const step of readdirSync(memory))
      for (const shard of readdirSync(join(memory, step))) rmSync(join(memory, step, shard));
    process.kill(workersOf(run.child.pid!)[0]!, 'SIGKILL');
    run.child.kill('SIGCONT');
    const { code, stdout, stderr } = await run.ended;
    t.is(code, 0, stderr);
    t.regex(stderr, /from step \d+, of which the hosts have copies/);
    t.regex(
      stderr,
      /copies of step \d+ in the hosts' memory cannot be gone on from: .*\n.*going on by itself from step 10\n/,
    );
    t.is((JSON.parse(stdout) as Trained).weightsHash, quietHash);
  },
);

test.serial(
  'where faults are to stop it, a killed worker ends the run with its rank and the command to resume',
  async (t) => {
    const run = sandbox.start(`${train} worker-killed --workers 2 --json --set faults.policy=stop`);
    await run.shown('saved step 10');
    const [victim] = workersOf(run.child.pid!);
    process.kill(victim!, 'SIGKILL');
    const { code, stdout } = await run.ended;
    t.not(code, 0);
    const { error } = JSON.parse(stdout) as Failed;
    t.is(error.code, 'SLUICE_E_WORKER_DIED');
    t.regex(error.message, /Worker [01] .*SIGKILL.*sluice resume/s);
    const resumed = await sandbox.json<Trained>('resume worker-killed --workers 1');
    t.is(resumed.weightsHash, quietHash);
  },
);

test.serial(
  'a killed coordinator leaves no worker behind; the run goes on from its checkpoint',
  async (t) => {
    const run = sandbox.start(`${train} coordinator-killed --workers 2`);
    await run.shown('saved step 10');
    const workers = workersOf(run.child.pid!);
    t.is(workers.length, 2);
    run.child.kill('SIGKILL');
    await run.ended;
    for (const worker of workers) t.true(await isGone(worker));
    const resumed = await sandbox.json<Trained>(
      'resume coordinator-killed --workers 2 --set parallel.expertParallel=2',
    );
    t.is(resumed.weightsHash, quietHash);
  },
);

test.serial('a damaged checkpoint is reported, and the one before it is used', async (t) => {
  const first = await sandbox.json<Trained>(`${train} damaged --workers 2 --until-step 25`);
  t.is(first.step, 25);
  const newest = join(sandbox.path, 'damaged', 'checkpoints', 'step-00000025');
  const shard = readdirSync(newest).find((file) => file.endsWith('.safetensors'))!;
  truncateSync(join(newest, shard), 1000);
  const { code, stderr } = await sandbox.start('resume damaged').ended;
  t.is(code, 0, stderr);
  t.regex(stderr, new RegExp(`step 25.*${shard}`, 's'));
  t.is((await sandbox.json<{ weights: string }>('hash damaged')).weights, quietHash);
});

test.serial('a directory that holds a run is refused, and so is one that a live process uses', async (t) => {
  const refused = async (command: string) => {
    const { code, stdout } = await sandbox.start(`${command} --json`).ended;
    t.not(code, 0);
    return (JSON.parse(stdout) as Failed).error.code;
  };
  t.is(await refused(`${train} quiet`), 'SLUICE_E_RUN_EXISTS');

  // So long that it goes on however late the other one comes.
  const busy = sandbox.start('train moe.yaml --set training.steps=100000 --threads 1 --run-dir busy');
  await busy.shown('1/100000');
  t.is(await refused('resume busy'), 'SLUICE_E_RUN_IN_USE');
  busy.child.kill('SIGTERM');
  t.is((await busy.ended).code, 0);
});

test.serial('a checkpoint generates text, is evaluated and inspected', async (t) => {
  const generate = () =>
    sandbox.json<{ text: string; tokens: number }>('generate quiet --prompt river --max-tokens 12 --seed 3');
  const text = await generate();
  t.true(text.tokens <= 12 && text.text.length > 0);
  t.deepEqual(await generate(), text);

  const scored = await sandbox.json<{ loss: number; perplexity: number }>('evaluate quiet');
  t.true(scored.loss > 0 && Math.abs(scored.perplexity - Math.exp(scored.loss)) < 1e-6 * scored.perplexity);

  const { checkpoints } = await sandbox.json<{ checkpoints: { step: number }[] }>('inspect quiet');
  t.regex(JSON.stringify(await sandbox.json('inspect quiet --step 3')), /\d+\.txt/);

  // Under the weights that a step began with, its documents have the very loss that it recorded.
  const step = checkpoints[0]!.step + 1;
  const { loss, checkpoint, documents } = await sandbox.json<InspectedLosses>(
    `inspect quiet --step ${step} --losses`,
  );
  t.is(checkpoint.step, step - 1);
  const sum = (value: (document: InspectedLosses['documents'][number]) => number) =>
    documents.reduce((total, document) => total + value(document), 0);
  const mean = sum((document) => (document.loss ?? 0) * document.tokens) / sum(({ tokens }) => tokens);
  t.true(Math.abs(mean - loss) < 1e-5, `${mean}, ${loss}`);
});

interface InspectedLosses {
  readonly loss: number;
  readonly checkpoint: { readonly step: number };
  readonly documents: readonly { readonly loss: number | null; readonly tokens: number }[];
}
