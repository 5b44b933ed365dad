/** A trained run out into the Hugging Face world and back: the same weights, the same text, the same perplexity. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

test.serial('a run is exported with its tokenizer, used from there, and imported again', async (t) => {
  const { weightsHash } = await sandbox.json<{ weightsHash: string }>(
    'train dense.yaml --run-dir run --until-step 4',
  );
  const exported = await sandbox.json<{ layout: string; tokenizerFiles: string[] }>('export run --hf hf');
  t.is(exported.layout, 'gated');
  t.deepEqual(exported.tokenizerFiles, ['tokenizer.json', 'tokenizer_config.json']);
  const imported = await sandbox.json<{ weights: string; maxLength: number }>('import hf --out checkpoint');
  t.is(imported.weights, weightsHash);
  t.is(imported.maxLength, 32);

  writeFileSync(join(sandbox.path, 'ids.json'), '[[5, 4, 3, 2], [300, 200, 100, 0]]');
  writeFileSync(join(sandbox.path, 'text.txt'), 'the river opens the gate and number 5 .\n'.repeat(9));
  const [run, ...others] = await Promise.all(
    ['run', 'hf', 'checkpoint'].map(async (source) => ({
      shape: (await sandbox.json(`logits ${source} --ids ids.json --out ${source}.json`)).shape,
      logits: readFileSync(join(sandbox.path, `${source}.json`), 'utf8'),
      generated: await sandbox.json(`generate ${source} --prompt the --max-tokens 40 --seed 5`),
      scored: await sandbox.json(`evaluate ${source} --text text.txt`),
    })),
  );
  t.deepEqual(run!.shape, [2, 4, 320]);
  for (const other of others) t.deepEqual(other, run);

  // The corpus fits the model that learned its tokenizer from it.
  const own = await sandbox.json<{ loss: number }>('evaluate run');
  const { corpora } = await sandbox.json<{ corpora: { name: string; directory: string }[] }>('data list');
  const prepared = corpora.find(({ name }) => name === 'tiny')!.directory;
  const fromCorpus = await sandbox.json<{ loss: number }>(`evaluate checkpoint --data ${prepared}`);
  t.is(fromCorpus.loss, own.loss);
});

test.serial(
  'a gated mixture of experts is exported in the layout of Qwen3-Next, with the same logits',
  async (t) => {
    await sandbox.json('train moe.yaml --run-dir moe --until-step 1');
    const { layout, notes } = await sandbox.json<{ layout: string; notes: string[] }>(
      'export moe --hf moe-hf',
    );
    t.is(layout, 'qwen3-next');
    t.regex(notes.join('; '), /gains w of norms as w − 1.*gate weights 0/);
    writeFileSync(join(sandbox.path, 'ids.json'), '[[5, 4, 3, 2], [300, 200, 100, 0]]');
    await sandbox.json('logits moe --ids ids.json --out moe.json');
    await sandbox.json('logits moe-hf --ids ids.json --out moe-hf.json');
    const read = (name: string): string => readFileSync(join(sandbox.path, name), 'utf8');
    t.is(read('moe-hf.json'), read('moe.json'));
    const refused = await sandbox.start('export moe --hf other --layout qwen3-moe --json').ended;
    t.regex(JSON.parse(refused.stdout).error.message, /use the layout qwen3-next.*a shared expert/);
  },
);
