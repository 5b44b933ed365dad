/** Retrieval from long contexts through the command line. */

import test from 'ava';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

interface Scores {
  readonly length: number;
  readonly depth: number | null;
  readonly accuracy: number;
  readonly recall: number;
  readonly choiceAccuracy: number;
  readonly answerLoss: number;
  readonly samples: number;
}

interface Retrieved {
  readonly task: string;
  readonly haystack: string;
  readonly candidates: number;
  readonly results: readonly (Scores & { readonly task: string })[];
  readonly lengths: readonly Scores[];
}

const evaluate = (flags: string) => sandbox.json<Retrieved>(`evaluate ${flags}`);

test.serial(
  'a run that was trained on needles is asked for them at any length, with its rotary embedding or YaRN',
  async (t) => {
    sandbox.write(
      'needles.yaml',
      `name: needles
sources: [{ kind: needles, task: both, length: 63, needles: 3, documents: 300 }]
tokenizer: { kind: train, vocabularySize: 800 }
validation: { fraction: 0.1 }
`,
    );
    sandbox.write(
      'run.yaml',
      `extends: dense.yaml
model: { vocabularySize: 800 }
data: { recipe: needles.yaml, sequenceLength: 64, beginning: <|endoftext|> }
`,
    );
    await sandbox.json('train run.yaml --run-dir run --threads 1');
    const flags = 'run --task niah --length 64,1k --depths 0,0.5,1 --samples 2 --needles 3';
    const plain = await evaluate(flags);
    t.like(plain, { task: 'niah', haystack: 'noise', candidates: 16 });
    t.deepEqual(
      plain.results.map(({ task, length, depth, samples }) => [task, length, depth, samples]),
      [64, 1024].flatMap((length) => [0, 0.5, 1].map((depth) => ['niah', length, depth, 2])),
    );
    for (const { accuracy, choiceAccuracy, answerLoss } of plain.results) {
      t.true(accuracy >= 0 && accuracy <= 1 && choiceAccuracy >= 0 && choiceAccuracy <= 1);
      t.true(answerLoss > 0 && answerLoss < 12);
    }
    t.deepEqual(
      plain.lengths.map(({ length, samples }) => [length, samples]),
      [
        [64, 6],
        [1024, 6],
      ],
    );
    t.deepEqual(await evaluate(flags), plain);
    t.notDeepEqual((await evaluate(`${flags} --seed 1`)).results, plain.results);
    const scaling = ['kind=yarn', 'factor=4', 'originalLength=64'].map((set) => `model.ropeScaling.${set}`);
    const yarn = await evaluate(`${flags} --set ${scaling.join(' ')}`);
    t.not(yarn.lengths[1]!.answerLoss, plain.lengths[1]!.answerLoss);

    // The corpus holds the words of the needles itself.
    const refused = await failed('evaluate run --task niah --length 1k --needles 60 --haystack text');
    t.is(refused.code, 'SLUICE_E_TASK_HAYSTACK');
    const short = await failed('evaluate run --task vt --length 20');
    t.is(short.code, 'SLUICE_E_TASK_LENGTH');
    const many = await failed('evaluate run --task vt --chains 20 --hops 15');
    t.regex(many.message, /are 320 variables; there are words for 64/);
  },
);

test.serial('needles are hidden in the held-out text of a run, and in any text', async (t) => {
  await sandbox.json('train dense.yaml --run-dir dense --threads 1');
  const flags = 'dense --task vt --length 700 --samples 2';
  const held = await evaluate(`${flags} --haystack text`);
  t.like(held, { task: 'vt', haystack: 'text', candidates: 2 });
  t.is(held.results.length, 1);
  t.is(held.results[0]!.depth, null);
  sandbox.write('book.txt', 'A river ran. It was wide and slow. Nobody saw it end.\nThe field was dry.');
  const book = await evaluate(`${flags} --text book.txt`);
  t.is(book.haystack, 'text');
  for (const [mistake, message] of [
    ['--depths 0', /--depths is of --task niah, not of vt/],
    ['--haystack noise --text book.txt', /--haystack noise takes no text/],
  ] as const)
    t.regex((await failed(`evaluate ${flags} ${mistake}`)).message, message);
  t.not(book.results[0]!.answerLoss, held.results[0]!.answerLoss);
  // The table is for people.
  const { code, stdout } = await sandbox.start(`evaluate ${flags}`).ended;
  t.is(code, 0);
  t.regex(stdout, /tokens +exact +words +of 2 +nats a token +prompts\n +700 /);
});

async function failed(command: string): Promise<{ code: string; message: string }> {
  const { code, stdout } = await sandbox.start(`${command} --json`).ended;
  if (code === 0) throw new Error(`${command} did not fail`);
  return (JSON.parse(stdout) as { error: { code: string; message: string } }).error;
}
