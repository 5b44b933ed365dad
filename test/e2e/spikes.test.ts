/** Spikes that are handled: the run goes back before them and on, and a kill at any moment of it changes no bit. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import type { JournalEntry } from '../../launcher/src/run/journal.ts';
import { workersOf } from './support/processes.ts';
import { Sandbox } from './support/sandbox.ts';

interface Trained {
  readonly step: number;
  readonly weightsHash: string;
  readonly validationLoss: number;
}

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

/** Checkpoints come in between the states that a run goes back to, and into the middle of the spike. */
const SETTINGS = [
  ...['training.steps=90', 'evaluation.everySteps=0', 'diagnostics.everySteps=0', 'checkpoint.everySteps=7'],
  ...['spikes.policy=rollback', 'spikes.warmupSteps=16', 'spikes.window=32', 'spikes.snapshotEverySteps=10'],
  ...['spikes.maxSkips=3', 'spikes.rateFactor=0.5', 'spikes.rateSteps=20'],
]
  .map((setting) => `--set ${setting}`)
  .join(' ');

const train = `train moe.yaml ${SETTINGS} --threads 1 --run-dir`;
const GARBAGE = JSON.stringify({ garbage: { steps: [53, 60] } });

function journalOf(run: string): JournalEntry[] {
  const path = join(sandbox.path, run, 'journal.jsonl');
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as JournalEntry);
}

const countOf = (run: string, kind: JournalEntry['kind']) =>
  journalOf(run).filter((entry) => entry.kind === kind).length;

/** What the steps that the run rests on tell of the updates before them. */
const updatesOf = (run: string) =>
  readFileSync(join(sandbox.path, run, 'metrics.jsonl'), 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => (JSON.parse(line) as { lastUpdate?: object }).lastUpdate);

let quiet: Trained;

test.before(async () => {
  process.env.SLUICE_POISON = GARBAGE;
  quiet = await sandbox.json<Trained>(`${train} quiet`);
});

/** Moments of a spike, as the files of a run show them from outside. */
const MOMENTS: Readonly<Record<string, (run: string) => boolean>> = {
  'the first spike is seen': (run) => countOf(run, 'spike') >= 1,
  'updates are left out': (run) => countOf(run, 'spike') >= 3,
  'going back is decided': (run) => countOf(run, 'rollback') >= 1,
  'the run has gone back': (run) => existsSync(join(sandbox.path, run, 'superseded')),
  'it has gone back once more': (run) => countOf(run, 'rollback') >= 2,
  'it is saved after that': (run) =>
    journalOf(run).at(-1)?.kind === 'commit' && countOf(run, 'rollback') >= 2,
};

for (const order of [
  [1, 4, 2],
  [2, 1, 4],
]) {
  test.serial(
    `killed at each moment of a spike, and gone on with by ${order.join(', ')} workers in turn, a run comes to the quiet one’s bits`,
    async (t) => {
      const name = `killed-${order.join('-')}`;
      const workersAt = (start: number) => `--workers ${order[start % order.length]}`;
      const moments = Object.entries(MOMENTS);
      for (const [start, [moment, hasCome]] of moments.entries()) {
        const run = sandbox.start(
          `${start === 0 ? `${train} ${name}` : `resume ${name}`} ${workersAt(start)}`,
        );
        const pids = () => [run.child.pid!, ...workersOf(run.child.pid!)];
        while (!hasCome(name) && run.child.exitCode === null) await delay(1);
        t.is(run.child.exitCode, null, moment);
        for (const pid of pids()) process.kill(pid, 'SIGKILL');
        await run.ended;
      }
      const resumed = await sandbox.json<Trained>(`resume ${name} ${workersAt(moments.length)}`);
      t.is(resumed.step, 90);
      t.is(resumed.weightsHash, quiet.weightsHash);
      t.deepEqual(updatesOf(name), updatesOf('quiet'));
    },
  );
}

test.serial(
  'a worker that dies while a run goes back is replaced, and the bits are the quiet run’s',
  async (t) => {
    const run = sandbox.start(`${train} healed --workers 2 --json`);
    while (countOf('healed', 'rollback') < 1) await delay(1);
    process.kill(workersOf(run.child.pid!)[1]!, 'SIGKILL');
    const { stdout, stderr } = await run.ended;
    t.is((JSON.parse(stdout) as Trained).weightsHash, quiet.weightsHash, stderr);
  },
);

test.serial(
  'the samples of the spike are left out, and the loss ends where it would have without',
  async (t) => {
    const decisions = journalOf('quiet').flatMap((entry) =>
      entry.kind === 'rollback' ? entry.decision : [],
    );
    t.true(decisions.length >= 2);
    t.deepEqual(
      decisions.map(({ level }) => level),
      decisions.map((_, i) => i + 1),
    );
    const longer = (name: string, policy: string) =>
      sandbox.json<Trained>(
        `${train} ${name} --set training.steps=150 --set spikes.rateFactor=1 --set spikes.policy=${policy}`,
      );
    const [rolledBack, reported] = [
      await longer('rolled-back', 'rollback'),
      await longer('reported', 'report'),
    ];
    process.env.SLUICE_POISON = '';
    const without = await longer('without', 'rollback');
    const excess = (run: Trained) => run.validationLoss - without.validationLoss;
    t.true(excess(rolledBack) < 0.3 * excess(reported), `${excess(rolledBack)}, ${excess(reported)}`);
  },
);

test.serial(
  'a bit that flips in one worker’s gradient is found, its rank named, and the run ends in the clean one’s bits',
  async (t) => {
    process.env.SLUICE_POISON = '';
    const clean = await sandbox.json<Trained>(`${train} clean --workers 2 --until-step 45`);
    process.env.SLUICE_POISON = JSON.stringify({ flip: { step: 40, rank: 1 } });
    const run = sandbox.start(`${train} flipped --workers 2 --until-step 45 --json`);
    const { stdout, stderr } = await run.ended;
    t.is((JSON.parse(stdout) as Trained).weightsHash, clean.weightsHash);
    t.regex(stderr, /rank 1 on .* computed something else than the others at step 40/);
    t.like(
      journalOf('flipped').find(({ kind }) => kind === 'recheck'),
      { step: 40, suspects: [{ rank: 1 }] },
    );
  },
);

test.serial('a worker that computes wrongly each time ends the run, with its rank', async (t) => {
  process.env.SLUICE_POISON = JSON.stringify({ flip: { step: 40, rank: 0, times: 3 } });
  const run = sandbox.start(`${train} broken --workers 4 --json`);
  const { code, stdout } = await run.ended;
  t.is(code, 1);
  const { error } = JSON.parse(stdout) as { error: { code: string; message: string } };
  t.is(error.code, 'SLUICE_E_WRONG_ARITHMETIC');
  t.regex(error.message, /rank 0 on .*each time/);
});

interface Replayed {
  readonly identical: boolean;
  readonly suspect: number | null;
  readonly firstDifference: number | null;
  readonly from: number;
}

test.serial(
  'a step is replayed by hand: the same bits, a worker that computes wrongly, a record of other numbers',
  async (t) => {
    process.env.SLUICE_POISON = GARBAGE;
    const alike = await sandbox.json<Replayed>('replay quiet --step 75 --workers 4');
    t.like(alike, { identical: true, suspect: null, firstDifference: null, from: 70 });

    const replay = async (poison: object, run: string, step: number) => {
      const { code, stdout } = await sandbox.start(`replay ${run} --step ${step} --workers 2 --json`, {
        SLUICE_POISON: JSON.stringify(poison),
      }).ended;
      t.is(code, 1);
      return JSON.parse(stdout) as Replayed;
    };
    t.like(await replay({ flip: { step: 38, rank: 1 } }, 'clean', 38), { identical: false, suspect: 1 });
    // As if the machine that took the step had been at fault, and nobody had looked.
    process.env.SLUICE_POISON = JSON.stringify({ flip: { step: 37, rank: 0, bit: 22 } });
    await sandbox.json(`${train} unwatched --set spikes.recheck=false --until-step 40`);
    t.like(await replay({}, 'unwatched', 40), { identical: false, suspect: null, firstDifference: 37 });

    // Another schedule from step 40 on is not that of the steps before.
    process.env.SLUICE_POISON = '';
    await sandbox.json('resume unwatched --set training.steps=120 --allow training.steps --until-step 41');
    t.like(await sandbox.json<Replayed>('replay unwatched --step 36 --workers 2'), { identical: true });
  },
);
