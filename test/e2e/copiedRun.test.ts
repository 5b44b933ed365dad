/** A run that is copied to where nothing else of it is; and one that begins with a model which was taught to chat. */

import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { readJournal } from '../../launcher/src/run/journal.ts';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

const at = (...names: string[]) => join(sandbox.path, ...names);

let weightsHash: string;
let loss: number;

test.serial('a copied run generates, evaluates and exports as the original did, which is gone', async (t) => {
  ({ weightsHash } = await sandbox.json<{ weightsHash: string }>(
    'train dense.yaml --run-dir run --set training.steps=6 checkpoint.everySteps=2 checkpoint.keep=9',
  ));
  writeFileSync(at('text.txt'), 'the river opens the gate and number 5 .\n'.repeat(9));
  const speak = async (run: string) => [
    await sandbox.json(`generate ${run} --prompt the --max-tokens 20 --seed 3`),
    await sandbox.json(`evaluate ${run} --text text.txt`),
  ];
  const spoken = await speak('run');
  ({ loss } = await sandbox.json<{ loss: number }>('evaluate run'));

  mkdirSync(at('far', 'off'), { recursive: true });
  cpSync(at('run'), at('far', 'off', 'copy'), { recursive: true });
  for (const name of ['run', 'texts', 'recipe.yaml']) rmSync(at(name), { recursive: true });
  renameSync(at('data'), at('away'));
  t.deepEqual(await speak('far/off/copy'), spoken);
  const { tokenizerFiles } = await sandbox.json<{ tokenizerFiles: string[] }>('export far/off/copy --hf hf');
  t.true(tokenizerFiles.includes('tokenizer.json'));
  t.is((await sandbox.json('hash far/off/copy')).weights, weightsHash);
  const { checkpoints: kept } = await sandbox.json<{ checkpoints: unknown[] }>('inspect far/off/copy');
  t.is(kept.length, 3);
});

test.serial('with the prepared corpus it goes on to the same bits', async (t) => {
  mkdirSync(at('data'));
  renameSync(at('away', 'prepared'), at('data', 'prepared'));
  t.is((await sandbox.json<{ loss: number }>('evaluate far/off/copy')).loss, loss);
  // The last steps are taken again.
  const checkpoints = at('far', 'off', 'copy', 'checkpoints');
  for (const name of readdirSync(checkpoints).slice(1)) rmSync(join(checkpoints, name), { recursive: true });
  const resumed = await sandbox.json<{ weightsHash: string; step: number }>('resume far/off/copy');
  t.is(resumed.step, 6);
  t.is(resumed.weightsHash, weightsHash);
});

/** What belongs to the text of an instruction-tuned model, as its publisher wrote it. */
const TEXT_FILES: Record<string, string> = {
  'tokenizer_config.json': JSON.stringify(
    {
      eos_token: 'e',
      add_bos_token: false,
      chat_template: [
        { name: 'default', template: '{{ messages }}' },
        { name: 'tool_use', template: '{{ tools }}' },
      ],
    },
    undefined,
    4,
  ),
  'chat_template.jinja': '{%- for message in messages %}\n{{ message.content }}\r\n{%- endfor %}',
  'additional_chat_templates/rag.jinja': '{{ documents }}',
  'special_tokens_map.json': '{"eos_token": "e"}',
  'added_tokens.json': '{"<|im_start|>": 318}',
  'generation_config.json': '{"eos_token_id": [1, 2], "temperature": 0.6, "top_k": 20}',
};

const TOKENS = { bos_token_id: null, eos_token_id: 317, pad_token_id: 316 };

const other = new Sandbox();
test.after.always(() => other.dispose());
const here = (...names: string[]) => join(other.path, ...names);

test.before(async () => {
  await other.json('train dense.yaml --run-dir base --until-step 1');
  await other.json('export base --hf tuned');
  mkdirSync(here('tuned', 'additional_chat_templates'));
  for (const [name, text] of Object.entries(TEXT_FILES)) writeFileSync(here('tuned', name), text);
  const config = JSON.parse(readFileSync(here('tuned', 'config.json'), 'utf8'));
  writeFileSync(here('tuned', 'config.json'), JSON.stringify({ ...config, ...TOKENS }));
});

/** Exports a run or a checkpoint, and compares what belongs to text with what the publisher wrote. */
async function exported(t: ExecutionContext, source: string): Promise<void> {
  await other.json(`export ${source} --hf ${source}-hf`);
  for (const [name, text] of Object.entries(TEXT_FILES))
    t.is(readFileSync(here(`${source}-hf`, name), 'utf8'), text, `${source}: ${name}`);
  t.like(JSON.parse(readFileSync(here(`${source}-hf`, 'config.json'), 'utf8')), TOKENS);
}

test.serial('chat templates and settings of generation come through an import', async (t) => {
  await other.json('import tuned --out imported');
  await exported(t, 'imported');
  await other.json('train dense.yaml --from imported --run-dir second --until-step 1');
  await exported(t, 'second');
});

test.serial('and through a run that was killed before it had begun', async (t) => {
  await other.json('train dense.yaml --from tuned --run-dir cut --until-step 1');
  // What there is once the configuration is there, and the journal's first entry is not.
  for (const name of ['journal.jsonl', 'metrics.jsonl', 'checkpoints', 'tokenizer'])
    rmSync(here('cut', name), { recursive: true });
  await other.json('resume cut --until-step 1');
  const kinds = readJournal(here('cut', 'journal.jsonl')).map(({ kind }) => kind);
  t.deepEqual(kinds.slice(0, 2), ['start', 'resume']);
  await exported(t, 'cut');
});

test.serial('and through a run that goes on without its source', async (t) => {
  const steps = '--set training.steps=4 checkpoint.everySteps=2';
  await other.json(`train dense.yaml --from tuned --run-dir run ${steps}`);
  renameSync(here('tuned'), here('gone'));
  rmSync(here('run', 'checkpoints', 'step-00000004'), { recursive: true });
  await other.json('resume run');
  await exported(t, 'run');
  const words = '--prompt the --max-tokens 12 --seed 2';
  t.deepEqual(await other.json(`generate run ${words}`), await other.json(`generate run-hf ${words}`));
});

test.serial('a run ends its texts at each token that its model’s settings of generation name', async (t) => {
  // Every token ends a text: none is left.
  const everyToken = { eos_token_id: Array.from({ length: 320 }, (_, id) => id) };
  writeFileSync(here('run-hf', 'generation_config.json'), JSON.stringify(everyToken));
  await other.json('train dense.yaml --from run-hf --run-dir silent --until-step 1');
  t.like(await other.json('generate silent --prompt the --max-tokens 12'), { text: '', tokens: 0 });
});
