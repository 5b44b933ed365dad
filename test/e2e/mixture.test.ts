/** Several corpora in one run, their documents kept apart: the same bits on other workers, and told corpus by corpus. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

interface Trained {
  readonly step: number;
  readonly validationLoss: number;
  readonly weightsHash: string;
}

sandbox.writeNumbers();
const mixture = `data:
  mixture:
    recipes: [recipe.yaml, numbers.yaml]
    weights: [3, 1]
    schedule: [{ fromTokens: 2048, weights: [0, 1] }]
  documents: separate
  beginning: <|endoftext|>`;
const dense = readFileSync(join(sandbox.path, 'dense.yaml'), 'utf8');
sandbox.write('mixed.yaml', dense.replace(/data:\n {2}recipe: .*/, mixture));

const metricsOf = (directory: string) =>
  readFileSync(join(sandbox.path, directory, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

test.serial('a mixture that is resumed on other workers goes on to the same bits', async (t) => {
  const quiet = await sandbox.json<Trained>('train mixed.yaml --run-dir quiet --workers 1 --threads 1');
  await sandbox.json('train mixed.yaml --run-dir stopped --workers 4 --threads 1 --until-step 7');
  const resumed = await sandbox.json<Trained>('resume stopped --workers 2');
  t.is(resumed.step, 12);
  t.is(resumed.weightsHash, quiet.weightsHash);
  t.is(resumed.validationLoss, quiet.validationLoss);
  const told = (directory: string) =>
    metricsOf(directory).map(({ loss, corpusShares }) => ({ loss, corpusShares }));
  t.deepEqual(told('stopped'), told('quiet'));
});

test.serial('metrics, inspection and evaluation tell the corpora apart', async (t) => {
  const metrics = metricsOf('quiet');
  t.deepEqual(metrics.at(-1).corpusShares, { tiny: 0, numbers: 1 });
  const early = metrics.slice(0, 8).reduce((sum, { corpusShares }) => sum + corpusShares.tiny / 8, 0);
  t.true(Math.abs(early - 0.75) < 0.15, `${early}`);
  t.deepEqual(Object.keys(metrics.at(-1).validationLosses), ['tiny', 'numbers']);

  const { sequences } = await sandbox.json<{ sequences: { corpus: string }[] }>('inspect quiet --step 2');
  const share = sequences.filter(({ corpus }) => corpus === 'tiny').length / sequences.length;
  t.is(share, metrics[1].corpusShares.tiny);

  interface Evaluated {
    readonly loss: number;
    readonly corpora: readonly { name: string; loss: number; tokens: number }[];
  }
  const { loss, corpora } = await sandbox.json<Evaluated>('evaluate quiet');
  const [first, second] = corpora;
  t.deepEqual([first!.name, second!.name], ['tiny', 'numbers']);
  t.true(Math.abs(loss - (3 * first!.loss + second!.loss) / 4) < 1e-12);
});

test.serial('weights may change later in a run that goes on, when that is allowed', async (t) => {
  const schedule = 'data.mixture.schedule=[{"fromTokens":1024,"weights":[1,1]}]';
  await sandbox.json('train mixed.yaml --run-dir changed --workers 1 --threads 1 --until-step 4');
  const command = `resume changed --set ${schedule}`;
  await t.throwsAsync(sandbox.json(command), { message: /SLUICE_E_RESUME_NEEDS_ALLOW/ });
  const past = 'data.mixture.schedule=[{"fromTokens":768,"weights":[1,1]}]';
  await t.throwsAsync(sandbox.json(`resume changed --set ${past} --allow data.mixture.schedule`), {
    message: /SLUICE_E_MIXTURE_PAST.*has read 1024 tokens.*from token 768 on.*fromTokens 1024 or more/s,
  });
  const changed = await sandbox.json<Trained>(`${command} --allow data.mixture.schedule`);
  t.is(changed.step, 12);
  const later = metricsOf('changed').slice(4);
  const share = later.reduce((sum, { corpusShares }) => sum + corpusShares.numbers / later.length, 0);
  // The configuration had said 1 from step 9 on.
  t.true(Math.abs(share - 0.5) < 0.2, `${share}`);
});
