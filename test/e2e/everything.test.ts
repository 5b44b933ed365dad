/** Whatever has a state of its own, in one run that goes back for spikes: the same bits on any number of workers, and after kills. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { workersOf } from './support/processes.ts';
import { Sandbox } from './support/sandbox.ts';

interface Trained {
  readonly step: number;
  readonly weightsHash: string;
  readonly validationLoss: number;
}

interface Hashes {
  readonly optimizer: string;
  readonly tensors: Readonly<Record<string, string>>;
}

interface Diagnosed {
  readonly layers: readonly {
    readonly router: { readonly bias: readonly number[]; readonly biasRange: number };
  }[];
}

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

process.env.SLUICE_POISON = JSON.stringify({ garbage: { steps: [53, 60] } });

sandbox.writeNumbers();
sandbox.write(
  'everything.yaml',
  `seed: 7
model:
  vocabularySize: 320
  hiddenSize: 32
  numLayers: 2
  numAttentionHeads: 4
  numKeyValueHeads: 2
  headDim: 8
  qkNorm: false
  experts:
    count: 4
    topK: 2
    intermediateSize: 24
    sharedIntermediateSize: 16
    router: sigmoid
    balanceCoefficient: 0
    balanceBias: { rate: 0.01 }
  tieWordEmbeddings: true
data:
  mixture:
    recipes: [recipe.yaml, numbers.yaml]
    weights: [3, 1]
    schedule: [{ fromTokens: 8192, weights: [1, 1] }]
  documents: separate
  beginning: <|endoftext|>
  sequenceLength: 32
parallel: { lanes: 4, gradients: bfloat16 }
batch:
  sequences: 16
  grainSequences: 1
  ramp: { from: 8, increment: 4, steps: 60 }
training: { steps: 70 }
optimizer:
  kind: muon
  learningRate: 3.0e-3
  groups: { embedding: { learningRateScale: 0.5 }, norms: { weightDecay: 0.1 } }
  clip: adaptive
  clipNorm: 0
  adaptiveClip: { warmupSteps: 8 }
  qkClip: { threshold: 0.05 }
schedule: { kind: wsd, decayShape: sqrt, unit: tokens, warmupSteps: 3 }
evaluation: { everySteps: 0, sequences: 5 }
diagnostics: { everySteps: 5, sequences: 5 }
checkpoint: { everySteps: 7, keep: 2 }
spikes:
  policy: rollback
  warmupSteps: 16
  window: 32
  snapshotEverySteps: 10
  maxSkips: 3
  rateFactor: 0.5
  rateSteps: 20
`,
);

const train = 'train everything.yaml --threads 1 --run-dir';

/** What a step was, without times. */
const stepsOf = (run: string) =>
  readFileSync(join(sandbox.path, run, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => {
      const { step, loss, gradientNorm, learningRate, tokens, corpusShares, clippedHeads, expertLoad } =
        JSON.parse(line);
      return { step, loss, gradientNorm, learningRate, tokens, corpusShares, clippedHeads, expertLoad };
    });

const diagnosticsOf = (run: string) => readFileSync(join(sandbox.path, run, 'diagnostics.jsonl'), 'utf8');

const rollbacksOf = (run: string) => {
  const journal = join(sandbox.path, run, 'journal.jsonl');
  return existsSync(journal) ? readFileSync(journal, 'utf8').split('"kind":"rollback"').length - 1 : 0;
};

let quiet: Trained;
test.before(async () => {
  quiet = await sandbox.json<Trained>(`${train} quiet`);
});

test.serial('the quiet run goes back, and each part of it has something to do', (t) => {
  t.true(rollbacksOf('quiet') >= 1);
  const steps = stepsOf('quiet');
  t.deepEqual([...new Set(steps.map(({ tokens }) => tokens / 32))], [8, 12, 16]);
  t.true(steps.some(({ clippedHeads }) => clippedHeads > 0));
});

test.serial(
  'with experts spread over workers, and gone on with by others, it comes to the same bits',
  async (t) => {
    await sandbox.json(`${train} spread --workers 4 --expert-parallel 2 --until-step 31`);
    const change = await sandbox.start('resume spread --set parallel.gradients=float32').ended;
    t.is(change.code, 1);
    t.regex(
      change.stderr,
      /parallel\.gradients \(saved "bfloat16", now "float32"\).*--allow parallel\.gradients/,
    );
    await sandbox.json('resume spread --workers 2 --until-step 45');
    const spread = await sandbox.json<Trained>('resume spread --workers 4 --set parallel.expertParallel=1');
    t.is(spread.weightsHash, quiet.weightsHash);
    t.is(spread.validationLoss, quiet.validationLoss);
    t.deepEqual(stepsOf('spread'), stepsOf('quiet'));
    t.is(diagnosticsOf('spread'), diagnosticsOf('quiet'));
    const [ours, theirs] = [
      await sandbox.json<Hashes>('hash spread'),
      await sandbox.json<Hashes>('hash quiet'),
    ];
    t.is(ours.optimizer, theirs.optimizer);
    t.deepEqual(ours.tensors, theirs.tensors);
  },
);

test.serial('each part with a state of its own has one, and the model answers', async (t) => {
  const { tensors } = await sandbox.json<Hashes>('hash quiet');
  t.true(Object.keys(tensors).some((name) => name.startsWith('optimizer.momentum.')));
  t.true('model.layers.1.mlp.gate.e_score_correction_bias' in tensors);
  const last = JSON.parse(diagnosticsOf('quiet').trim().split('\n').at(-1)!) as Diagnosed;
  t.true(last.layers.every(({ router }) => router.bias.length === 4 && router.biasRange > 0));
  const { loss } = await sandbox.json<{ loss: number }>('evaluate quiet');
  t.true(Math.abs(loss - quiet.validationLoss) < 0.1);
  const { tokens } = await sandbox.json<{ tokens: number }>('generate quiet --prompt the --max-tokens 3');
  t.true(tokens > 0);
});

test.serial('killed before it has gone back, it does so from a checkpoint, to the same bits', async (t) => {
  const run = sandbox.start(`${train} killed --workers 2`);
  while (rollbacksOf('killed') < 1 && run.child.exitCode === null) await delay(1);
  t.is(run.child.exitCode, null);
  for (const pid of [run.child.pid!, ...workersOf(run.child.pid!)]) process.kill(pid, 'SIGKILL');
  await run.ended;
  const resumed = await sandbox.json<Trained>('resume killed');
  t.is(resumed.weightsHash, quiet.weightsHash);
  t.is(resumed.validationLoss, quiet.validationLoss);
  t.deepEqual(stepsOf('killed'), stepsOf('quiet'));
});
