/** Training on from weights that exist: the same start whatever holds them and however many workers read them. */

import { readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { parse } from 'yaml';
import { Sandbox } from './support/sandbox.ts';

interface Trained {
  readonly runDir: string;
  readonly step: number;
  readonly trainLoss: number;
  readonly weightsHash: string;
}

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

const train = (words: string) => sandbox.json<Trained>(`train ${words}`);
const journalOf = (run: string): Record<string, unknown>[] =>
  readFileSync(join(sandbox.path, run, 'journal.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
const entry = (run: string, kind: string) => journalOf(run).find((item) => item.kind === kind)!;

/** The error that a command ends with. */
async function refusal(command: string): Promise<{ code: string; message: string }> {
  const { code, stdout } = await sandbox.start(`${command} --json`).ended;
  if (code !== 1) throw new Error(`sluice ${command} ended with ${code}`);
  return JSON.parse(stdout).error;
}

const LONGER = '--set data.sequenceLength=64 model.ropeTheta=1e5 training.steps=4';

test.before(async () => {
  await train('dense.yaml --run-dir dense --until-step 6');
  await train('moe.yaml --run-dir moe --until-step 6 --workers 2 --expert-parallel 2');
});

for (const kind of ['dense', 'moe'] as const) {
  test.serial(`${kind}: any number of workers goes on from a run’s weights with the same bits`, async (t) => {
    const source = await sandbox.json<{ weights: string }>(`hash ${kind}`);
    const one = await train(`${kind}.yaml --from ${kind} --run-dir ${kind}-1 --workers 1 ${LONGER}`);
    const flags = kind === 'moe' ? '--workers 2 --expert-parallel 2' : '--workers 2';
    const two = await train(`${kind}.yaml --from ${kind} --run-dir ${kind}-2 ${flags} ${LONGER}`);
    t.is(one.step, 4);
    t.is(two.weightsHash, one.weightsHash);
    t.is(two.trainLoss, one.trainLoss);
    // Where the run came from, and that it began there, with what was changed.
    const checkpoint = `../${kind}/checkpoints/step-00000006`;
    t.like(entry(`${kind}-2`, 'start').from, {
      path: checkpoint,
      weights: source.weights,
      changes: [{ key: 'model.ropeTheta', before: 10000, after: 100000 }],
      initialized: [],
    });
    t.like(entry(`${kind}-2`, 'commit'), { step: 0, weights: source.weights });
    const frozen = parse(readFileSync(join(sandbox.path, `${kind}-2`, 'config.yaml'), 'utf8'));
    t.deepEqual(frozen.initialize, { from: checkpoint, missing: 'refuse', optimizer: 'fresh' });
  });
}

test.serial(
  'a run that keeps the optimizer of its source stops, and goes on elsewhere, with the same bits',
  async (t) => {
    const { optimizer } = await sandbox.json<{ optimizer: string }>('hash dense');
    const kept = `dense.yaml --from dense ${LONGER} initialize.optimizer=keep`;
    const whole = await train(`${kept} --run-dir kept`);
    t.is((entry('kept', 'start').from as { optimizer: string }).optimizer, optimizer);
    await train(`${kept} --run-dir kept-2 --workers 2 --until-step 2`);
    t.is((await sandbox.json<Trained>('resume kept-2 --workers 1')).weightsHash, whole.weightsHash);
    t.not(whole.weightsHash, (await sandbox.json<Trained>('resume dense-1')).weightsHash);
  },
);

test.serial('an optimizer that is not there, or of another kind, is not kept', async (t) => {
  const keep = '--set initialize.optimizer=keep';
  const nothing = await refusal(`train dense.yaml --run-dir no ${keep}`);
  t.is(nothing.code, 'SLUICE_E_CONFIG_INVALID');
  t.regex(nothing.message, /no weights to begin with/);
  await sandbox.json('export dense --hf weights');
  await sandbox.json('import weights --out imported');
  const replicas = 'parallel.synchronize.everySteps=2 parallel.synchronize.replicas=2';
  await sandbox.json(`train dense.yaml --run-dir apart --until-step 1 --set ${replicas}`);
  for (const [from, reason] of [
    ['weights', /is a Hugging Face directory/],
    ['imported', /was imported/],
    ['apart', /is of replicas that train apart/],
  ] as const) {
    const { code, message } = await refusal(`train dense.yaml --from ${from} --run-dir no ${keep}`);
    t.is(code, 'SLUICE_E_OPTIMIZER_STATE');
    t.regex(message, reason);
  }
  const { code, message } = await refusal(
    `train dense.yaml --from dense --run-dir no ${keep} optimizer.kind=muon`,
  );
  t.is(code, 'SLUICE_E_OPTIMIZER_STATE');
  t.regex(message, /another optimizer than muon: of model\.layers.*, firstMoment and secondMoment/);
});

test.serial('the first loss is that of the source on the same data', async (t) => {
  const { loss, tokens } = await sandbox.json<{ loss: number; tokens: number }>(
    'evaluate dense --split train',
  );
  // One batch that is the whole split.
  const whole = `batch.sequences=${tokens / 32} parallel.lanes=1`;
  const { trainLoss } = await train(
    `dense.yaml --from dense --run-dir dense-whole --until-step 1 --set ${whole}`,
  );
  t.true(Math.abs(trainLoss - loss) < 1e-6 * loss, `${trainLoss}, not ${loss}`);
});

test.serial('an exported Hugging Face directory gives the same bits as the checkpoint', async (t) => {
  await sandbox.json('export dense --hf hf');
  const { weightsHash } = await sandbox.json<Trained>('resume dense-1');
  const other = await train(`dense.yaml --from hf --run-dir dense-hf --workers 2 ${LONGER}`);
  t.is(other.weightsHash, weightsHash);
  const from = entry('dense-hf', 'start').from as { weights: string };
  t.is(from.weights, (entry('dense-1', 'start').from as typeof from).weights);
});

test.serial('a run goes on from its own checkpoint when its source is gone', async (t) => {
  const quiet = await sandbox.json<Trained>('resume moe-1');
  await train(`moe.yaml --from moe --run-dir moe-stopped --workers 2 --until-step 1 ${LONGER}`);
  renameSync(join(sandbox.path, 'moe'), join(sandbox.path, 'moe-elsewhere'));
  const resumed = await sandbox.json<Trained>('resume moe-stopped --workers 1');
  t.is(resumed.weightsHash, quiet.weightsHash);
  // Without any checkpoint it would have to begin again, and says that it cannot.
  rmSync(join(sandbox.path, 'moe-stopped/checkpoints'), { recursive: true });
  t.regex((await refusal('resume moe-stopped --from-scratch')).message, /moe\/checkpoints\/step-00000006/);
  renameSync(join(sandbox.path, 'moe-elsewhere'), join(sandbox.path, 'moe'));
  t.is((await sandbox.json<Trained>('resume moe-stopped --from-scratch')).weightsHash, quiet.weightsHash);
});

test.serial('a gate of zeros that the source lacks is added, and changes nothing at first', async (t) => {
  const none = 'dense.yaml --set model.gate.granularity=none';
  await train(`${none} --run-dir plain --until-step 3`);
  const gate =
    '--set model.gate.initialWeights=zeros model.gate.activation=double-sigmoid training.steps=2 schedule.warmupSteps=1';
  const refused = await refusal(`train dense.yaml --from plain --run-dir gated ${gate}`);
  t.is(refused.code, 'SLUICE_E_WEIGHTS_MISMATCH');
  t.regex(refused.message, /model\.layers\.0\.self_attn\.sdpa_gate\.weight \[32, 32\] is not there/);
  const command = `dense.yaml --from plain --from-missing initialize ${gate}`;
  const one = await train(`${command} --run-dir gated`);
  const two = await train(`${command} --run-dir gated-2 --workers 2`);
  t.is(two.weightsHash, one.weightsHash);
  t.deepEqual((entry('gated', 'start').from as { initialized: string[] }).initialized, [
    'model.layers.0.self_attn.sdpa_gate.weight',
    'model.layers.1.self_attn.sdpa_gate.weight',
  ]);
  const [gated, plain] = await Promise.all(
    ['gated', 'plain'].map((run) =>
      sandbox.json<{ loss: number }>(`evaluate ${run}/checkpoints/step-0000000${run === 'gated' ? 0 : 3}`),
    ),
  );
  t.true(Math.abs(gated!.loss - plain!.loss) < 1e-6);
});

test.serial(
  'a model that the configuration leaves out is that of the weights, with what is set',
  async (t) => {
    const bare = readFileSync(join(sandbox.path, 'dense.yaml'), 'utf8').replace(/^model:\n( .*\n)+/m, '');
    sandbox.write('bare.yaml', `${bare}initialize: { from: dense }\n`);
    const { weightsHash } = await train(`bare.yaml --run-dir dense-bare ${LONGER}`);
    t.is(weightsHash, (await sandbox.json<{ weights: string }>('hash dense-1')).weights);
  },
);

test.serial('weights of another model or of another tokenizer are refused before any work', async (t) => {
  const other = await refusal(
    'train dense.yaml --from dense --run-dir no --set model.vocabularySize=400 model.tieWordEmbeddings=true',
  );
  t.is(other.code, 'SLUICE_E_WEIGHTS_MISMATCH');
  t.regex(other.message, /model\.embed_tokens\.weight is \[320, 32\] there, \[400, 32\] in the model/);
  t.regex(other.message, /lm_head\.weight \[320, 32\] is there, but not in the model/);

  sandbox.write(
    'other.yaml',
    readFileSync(join(sandbox.path, 'recipe.yaml'), 'utf8').replace('320', '300').replace('tiny', 'tiny-300'),
  );
  const { code, message } = await refusal(
    'train dense.yaml --from dense --run-dir no --set data.recipe=other.yaml',
  );
  t.is(code, 'SLUICE_E_TOKENIZER_MISMATCH');
  t.regex(message, /tiny-300 was prepared with another tokenizer than .*dense\/tokenizer\/tokenizer\.json/);
  t.is((await refusal('train dense.yaml --from nowhere --run-dir no')).code, 'SLUICE_E_FILE_MISSING');
});
