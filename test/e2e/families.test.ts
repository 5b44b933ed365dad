/** Families of gated models trained from scratch: the same bits on any number of workers, and the same model in their own layout. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

interface Trained {
  readonly step: number;
  readonly weightsHash: string;
}

const EXPERTS = 'count: 4, topK: 2, intermediateSize: 24, sharedIntermediateSize: 24';
const CHOICE = 'router: sigmoid, scalingFactor: 2.5, balanceBias: {}, balanceCoefficient: 0, zCoefficient: 0';

/** Tiny ones; the names are those of their layouts. */
const MODELS: Readonly<Record<string, string>> = {
  afmoe: `
  numLayers: 3
  intermediateSize: 48
  embeddingScaling: sqrt
  experts: { ${EXPERTS}, ${CHOICE} }
  controls: [{ kind: sandwich-norm, initialGain: depth-scaled }]
  layers:
    kinds: { dense: { feedForward: dense, window: 9 }, near: { window: 9 }, full: { positions: none } }
    pattern: [near, near, full]
    first: [dense]
`,
  laguna: `
  gate: { granularity: headwise, activation: softplus }
  experts: { ${EXPERTS}, ${CHOICE} }
  layers:
    kinds: { full: { rotaryDim: 4, ropeTheta: 500000 }, near: { window: 9, numAttentionHeads: 8 } }
    pattern: [full, near]
`,
  'qwen3-next': `
  rotaryDim: 2
  zeroCentredNorms: all
  experts: { ${EXPERTS}, sharedGate: true }
  layers:
    kinds:
      linear: { mixer: { kind: gated-delta-net, keyHeads: 1, valueHeads: 2, keyDim: 8, valueDim: 8 } }
      full: {}
    pattern: [linear, full]
`,
  'kimi-linear': `
  numLayers: 3
  numKeyValueHeads: 4
  intermediateSize: 48
  qkNorm: false
  positions: none
  gates: []
  keyValueLatent: { rank: 6, sharedKeyDim: 4, valueDim: 6, normEps: 1.0e-6 }
  experts: { ${EXPERTS}, ${CHOICE}, groups: { count: 2, topK: 1 } }
  layers:
    kinds:
      linear: { mixer: { kind: kimi-delta-attention, heads: 2, keyDim: 8, valueDim: 8 } }
      dense: { mixer: { kind: kimi-delta-attention, heads: 2, keyDim: 8, valueDim: 8 }, feedForward: dense }
      full: {}
    pattern: [linear, full]
    first: [dense]
`,
};

/** The run that all of them are of. */
const run = (model: string) => `extends: moe.yaml
model:
  tieWordEmbeddings: false${model}`;

for (const [family, model] of Object.entries(MODELS)) {
  test.serial(
    `${family}: workers, experts among them, and stops change no bit; its layout says the same model`,
    async (t) => {
      sandbox.write(`${family}.yaml`, run(model));
      const quiet = await sandbox.json<Trained>(`train ${family}.yaml --run-dir ${family}-quiet --threads 1`);
      t.is(quiet.step, 12);
      await sandbox.json(
        `train ${family}.yaml --run-dir ${family} --workers 2 --expert-parallel 2 --threads 1 --until-step 5`,
      );
      t.is(
        (await sandbox.json<Trained>(`resume ${family} --workers 2 --set parallel.expertParallel=1`))
          .weightsHash,
        quiet.weightsHash,
      );
      const diagnostics = (name: string) =>
        readFileSync(join(sandbox.path, name, 'diagnostics.jsonl'), 'utf8');
      t.is(diagnostics(family), diagnostics(`${family}-quiet`));

      const { layout, notes } = await sandbox.json<{ layout: string; notes: string[] }>(
        `export ${family} --hf ${family}-hf`,
      );
      t.is(layout, family);
      t.deepEqual(notes, []);
      const imported = await sandbox.json<{ layout: string; weights: string }>(
        `import ${family}-hf --out ${family}-back`,
      );
      t.is(imported.layout, family);
      t.is(imported.weights, quiet.weightsHash);
    },
  );
}
