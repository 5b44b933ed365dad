/** Faults of every kind change no bit, with workers of the coordinator itself and on agents that stand for hosts. */

import test from 'ava';
import { descendants, isWorker, type ProcessEntry } from '../../launcher/src/operate/processes.ts';
import { until } from '../support/until.ts';
import { isGone } from './support/processes.ts';
import { Sandbox } from './support/sandbox.ts';

interface Verified {
  readonly identical: boolean;
  readonly kills: number;
  readonly weightsHash: string;
  readonly faults: readonly { readonly kind: string }[];
}

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

const verify =
  'verify-resume moe.yaml --set training.steps=40 --set checkpoint.everySteps=5 --set schedule.warmupSteps=4 --threads 1';
let weights = '';

test.serial('workers and coordinator of one machine', async (t) => {
  const { identical, kills, weightsHash } = await sandbox.json<Verified>(
    `${verify} --workers 2 --kills 2 --seed 3`,
  );
  t.true(identical);
  t.is(kills, 2);
  t.regex(weightsHash, /^[0-9a-f]{64}$/);
  weights = weightsHash;
});

test.serial(
  'workers, whole hosts and the connections between them, experts shared and all encrypted',
  async (t) => {
    const { identical, weightsHash, faults } = await sandbox.json<Verified>(
      `${verify} --workers 4 --expert-parallel 2 --agents 3 --kills 2 --seed 49`,
    );
    t.true(identical);
    t.is(weightsHash, weights);
    t.true(faults.some(({ kind }) => kind === 'killHost' || kind === 'cutLink'));
  },
);

test.serial('a run that is abused ends with the command that abuses it, if that is killed', async (t) => {
  // What npm starts ends with its parent in any case.
  const environment = { npm_command: undefined };
  const words = 'verify-resume dense.yaml --kills 1 --run-dir killed --set training.steps=100000';
  const verifying = sandbox.start(words, environment);
  const run = await until('a run goes on', () => {
    const below = descendants(verifying.child.pid!);
    return below.some(isWorker) && below.find((one) => one.words.includes('launch'));
  });
  verifying.child.kill('SIGKILL');
  t.true(await isGone((run as ProcessEntry).pid));
});
