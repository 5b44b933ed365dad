/** What goes wrong in a run's files and numbers: said, never passed over, and mended by the command that is printed. */

import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Sandbox } from './support/sandbox.ts';

interface Trained {
  readonly step: number;
  readonly trainLoss: number | null;
  readonly validationLoss: number | null;
  readonly weightsHash: string;
}

interface Failed {
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly details: { readonly resume?: string };
  };
}

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

const file = (...names: string[]) => join(sandbox.path, ...names);

async function failed(command: string): Promise<Failed['error']> {
  const { code, stdout } = await sandbox.start(`${command} --json`).ended;
  if (code === 0) throw new Error(`sluice ${command} did not fail`);
  return (JSON.parse(stdout) as Failed).error;
}

/** The arguments of the command that an error's message ends with. */
function printedCommand({ message, details }: Failed['error']): string {
  if (!message.endsWith(`: ${details.resume}`)) throw new Error(message);
  return details.resume!.replace(/^sluice /, '');
}

const stepsIn = (path: string) =>
  readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { step: number }).step);

test.serial(
  'a rate that ends in numbers that are not finite: the printed command goes on to the end',
  async (t) => {
    await sandbox.json('train dense.yaml --run-dir blown --threads 1 --until-step 5 --set training.steps=30');
    const error = await failed(
      'resume blown --set optimizer.learningRate=1e25 --allow optimizer.learningRate',
    );
    t.is(error.code, 'SLUICE_E_NON_FINITE');
    t.regex(error.message, /The newest sound checkpoint is of step 5\./);
    const mended = await sandbox.json<Trained>(printedCommand(error));
    t.is(mended.step, 30);
    t.true(Number.isFinite(mended.trainLoss) && mended.trainLoss! < 6, `loss ${mended.trainLoss}`);
    t.deepEqual(
      stepsIn(file('blown', 'metrics.jsonl')),
      Array.from({ length: 30 }, (_, i) => i + 1),
    );
    t.is(stepsIn(file('blown', 'superseded', 'metrics-001.jsonl'))[0], 6);
  },
);

test.serial('the same before there is a checkpoint: the printed command begins again', async (t) => {
  const error = await failed(
    'train dense.yaml --run-dir at-once --threads 1 --set training.steps=30 checkpoint.everySteps=0 optimizer.learningRate=1e25',
  );
  t.is(error.code, 'SLUICE_E_NON_FINITE');
  t.regex(error.message, /There is no checkpoint yet/);
  t.deepEqual(readdirSync(file('at-once', 'checkpoints')), []);
  const mended = await sandbox.json<Trained>(printedCommand(error));
  t.is(mended.step, 30);
  t.true(mended.trainLoss! < 6, `loss ${mended.trainLoss}`);
});

test.serial(
  'a run with all its checkpoints damaged begins anew only when told to, and keeps its metrics',
  async (t) => {
    const quiet = await sandbox.json<Trained>('train dense.yaml --run-dir quiet --threads 1');
    await sandbox.json('train dense.yaml --run-dir lost --threads 1 --until-step 9');
    for (const name of readdirSync(file('lost', 'checkpoints')))
      writeFileSync(file('lost', 'checkpoints', name, 'manifest.json'), '');
    const error = await failed('resume lost');
    t.is(error.code, 'SLUICE_E_NO_CHECKPOINT');
    t.regex(error.message, /step 9: .*\n.*step 8: .*\n.*resume .*lost --from-scratch$/);
    t.is(stepsIn(file('lost', 'metrics.jsonl')).length, 9);

    const begun = await sandbox.json<Trained>('resume lost --from-scratch --until-step 3');
    t.is(begun.step, 3);
    t.deepEqual(stepsIn(file('lost', 'superseded', 'metrics-001.jsonl')), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    t.regex((await failed('resume lost --from-scratch')).message, /has a sound checkpoint of step 3/);
    const finished = await sandbox.json<Trained>('resume lost');
    t.is(finished.weightsHash, quiet.weightsHash);
  },
);

test.serial('a run goes on, and another begins, though the text is gone: all tokens are there', async (t) => {
  await sandbox.json('train dense.yaml --run-dir kept --threads 1 --until-step 5');
  rmSync(file('texts'), { recursive: true });
  const { code, stderr } = await sandbox.start('resume kept --until-step 6').ended;
  t.is(code, 0, stderr);
  t.regex(stderr, /the text of .*recipe\.yaml is gone/);
  const quiet = await sandbox.json<{ weights: string }>('hash quiet');
  t.is((await sandbox.json<Trained>('resume kept')).weightsHash, quiet.weights);
  const anew = await sandbox.json<Trained>('train dense.yaml --run-dir anew --threads 1');
  t.is(anew.weightsHash, quiet.weights);

  rmSync(file('data'), { recursive: true });
  const error = await failed('train dense.yaml --run-dir none');
  t.is(error.code, 'SLUICE_E_FILE_MISSING');
  t.regex(error.message, /no prepared corpus.*sluice data prepare .*recipe\.yaml/s);
});
