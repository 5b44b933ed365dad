import { writeFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { stringify } from 'yaml';
import { planModel } from '../../launcher/src/run/planModel.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const MOE = 'configs/models/15b-a2b.yaml';

test('the paper’s mixture of experts does not fit on one H100, and fits on many that share experts and a lane each', (t) => {
  const one = planModel(MOE, { workers: 1, device: 'h100' }).json;
  const many = planModel(MOE, { workers: 64, expertParallel: 64, device: 'h200' }).json;
  t.false(one.fits);
  t.true(many.fits);
  t.true((one.memoryBytes as number) > 15.5e9 * 16);
  t.is(many.workers, 64);
});

test('flags go before the file, and the file before defaults', (t) => {
  const quickstart = planModel('configs/quickstart.yaml', { device: 'a100' }).json;
  t.like(quickstart, {
    workers: 2,
    expertParallel: 2,
    sequences: 32,
    grainSequences: 4,
    sequenceLength: 128,
  });
  const changed = planModel('configs/quickstart.yaml', {
    device: 'a100',
    workers: 1,
    sequenceLength: 64,
    batch: 64,
    grain: 8,
  });
  t.like(changed.json, {
    workers: 1,
    expertParallel: 1,
    sequences: 64,
    grainSequences: 8,
    sequenceLength: 64,
  });
  t.like(planModel(MOE, { device: 'a100' }).json, { workers: 1, sequences: 1024, sequenceLength: 4096 });
});

test('--set changes the file, a model alone as that of a run, and flags go before it', (t) => {
  const path = join(temporaryDirectory(t), 'model.yaml');
  const model = { vocabularySize: 512, hiddenSize: 256, numLayers: 2, intermediateSize: 512 };
  writeFileSync(path, stringify({ ...model, numAttentionHeads: 4, numKeyValueHeads: 2, headDim: 32 }));
  const planned = (...set: string[]) => planModel(path, { device: 'a100', set }).json;
  const memory = (...set: string[]) => planned(...set).memory as Record<'optimizer' | 'parameters', number>;
  t.true(memory('model.hiddenSize=128').parameters < memory().parameters);
  t.true(memory('optimizer.kind=muon').optimizer < memory().optimizer);
  t.like(planned('batch.sequences=64', 'parallel.workers=16', 'data.sequenceLength=128'), {
    ...{ sequences: 64, workers: 16, sequenceLength: 128 },
  });
  const flags = { device: 'a100', batch: 32, scale: 'tiny' } as const;
  const set = ['batch.sequences=64', 'model.scale=small'];
  t.deepEqual(planModel(path, { ...flags, set }).json, planModel(path, flags).json);
});

test('mistakes of --set, and of a model alone, are told as of a run', (t) => {
  t.throws(() => planModel(MOE, { device: 'a100', set: ['model.hiddenSiz=64'] }), {
    code: 'SLUICE_E_CONFIG_OVERRIDE',
    message: '--set model.hiddenSiz=64  unknown key model.hiddenSiz; did you mean model.hiddenSize?',
  });
  t.throws(() => planModel('configs/quickstart.yaml', { device: 'a100', set: ['batch.sequences=-1'] }), {
    code: 'SLUICE_E_CONFIG_INVALID',
    message: /batch\.sequences: must be at least 1, got -1/,
  });
  const path = join(temporaryDirectory(t), 'model.yaml');
  writeFileSync(path, 'vocabularySize: 64\nhiddenSiz: 8\n');
  t.throws(() => planModel(path, { device: 'a100' }), {
    code: 'SLUICE_E_CONFIG_INVALID',
    message: /model\.yaml:2:1 {2}model\.hiddenSiz: unknown key \(value 8\); did you mean model\.hiddenSize\?/,
  });
});

test('a scaled model takes less', (t) => {
  const full = planModel(MOE, { device: 'a100' }).json.memoryBytes as number;
  const tiny = planModel(MOE, { device: 'a100', scale: 'tiny' }).json.memoryBytes as number;
  t.true(tiny < full / 50);
});

test('the text tells memory, traffic, time and whether it fits', (t) => {
  const { text } = planModel(MOE, { workers: 8, expertParallel: 8, device: 'h100' });
  for (const line of [/activations .*GiB/, /does not fit into/, /rows to experts and back/, /utilization/]) {
    t.regex(text, line);
  }
});

test('the plan of a batch that grows is that of the whole one, and tells the first step as well', (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'ramp.yaml');
  const quickstart = resolve('configs/quickstart.yaml');
  const batch = 'batch:\n  grainSequences: 2\n  ramp: { from: 16, steps: 50 }\n';
  writeFileSync(path, `extends: ${relative(directory, quickstart)}\n${batch}`);
  const { first, ...plan } = planModel(path, { device: 'h100' }).json;
  t.deepEqual(plan, planModel(quickstart, { device: 'h100', grain: 2 }).json);
  const half = planModel(quickstart, { device: 'h100', grain: 2, batch: 16 }).json;
  t.deepEqual(first, { sequences: 16, seconds: half.seconds, tokensPerSecond: half.tokensPerSecond });
  t.regex(planModel(path, { device: 'h100' }).text, /the batch grows: in the first step 16 sequences/);
  t.is(planModel(path, { device: 'h100', batch: 64 }).json.first, undefined);
});

/** A file that changes sections of the quickstart. */
function changedQuickstart(t: ExecutionContext, sections: object): string {
  const path = join(temporaryDirectory(t), 'run.yaml');
  writeFileSync(path, stringify({ extends: resolve('configs/quickstart.yaml'), ...sections }));
  return path;
}

test('documents that are kept apart are planned as such', (t) => {
  const mixer = { kind: 'gated-delta-net', keyHeads: 8, valueHeads: 16, keyDim: 64, valueDim: 64 };
  const memoryOf = (documents: string) => {
    const data = { sequenceLength: 4000, documents };
    const path = changedQuickstart(t, { model: { mixer }, data });
    return planModel(path, { device: 'h100', backend: 'cuda' }).json.memoryBytes as number;
  };
  t.true(memoryOf('separate') > memoryOf('packed'));
});

test('more of anything than can be counted out is refused in no time', (t) => {
  const tooMany = { model: { numLayers: 1e9 }, parallel: { lanes: 2 ** 30, threads: 1e5 } };
  const error = t.throws(() => planModel(changedQuickstart(t, tooMany), { device: 'h100' }), {
    code: 'SLUICE_E_CONFIG_INVALID',
  });
  for (const key of ['numLayers', 'lanes', 'threads'])
    t.regex(error.message, RegExp(`${key}: must be at most`));
  t.throws(() => planModel(MOE, { workers: 2 ** 30, device: 'h100' }), {
    code: 'SLUICE_E_CONFIG_INVALID',
    message: /parallel\.workers: must be at most 1048576, got 1073741824/,
  });
});

test('layouts that do not fit together are refused as in training', (t) => {
  t.throws(() => planModel(MOE, { workers: 3, device: 'h100' }), { code: 'SLUICE_E_WORKERS_INVALID' });
  t.throws(() => planModel(MOE, { workers: 4, batch: 30, device: 'h100' }), {
    code: 'SLUICE_E_BATCH_INDIVISIBLE',
  });
  t.throws(() => planModel(MOE, { workers: 4, expertParallel: 3, device: 'h100' }), {
    code: 'SLUICE_E_EXPERT_PARALLEL_INVALID',
  });
});

test('of a GPU, sums of gradients that it has no room for are planned for the host, without a GPU here', (t) => {
  const shared = { workers: 8, expertParallel: 8, device: 'h100', backend: 'cuda' } as const;
  const { json, text } = planModel(MOE, shared);
  const { memory, hostMemory } = json as unknown as {
    memory: Record<'parameters' | 'gradients' | 'activations' | 'total', number>;
    hostMemory: { gradients: number };
  };
  const inSingle = planModel(MOE, { ...shared, precision: 'f32' });
  const f32 = inSingle.json.memory as typeof memory;
  t.true(json.fits as boolean);
  t.true(hostMemory.gradients > 0);
  t.is(json.memoryBytes, memory.total);
  t.regex(text, /of the host beside it/);
  t.regex(text, /products at 989 TFLOP\/s/);
  t.regex(inSingle.text, /products at 67 TFLOP\/s/);
  // Experts have but one owner of each here; of all others a worker owns the eighth part.
  t.true(memory.parameters / f32.parameters < 6 / 4);
  t.true(memory.parameters / f32.parameters > (2 + 4 / 8) / 4);
  t.true(f32.activations > 1.7 * memory.activations);
  t.throws(() => planModel(MOE, { ...shared, backend: 'native', precision: 'bf16' }), {
    code: 'SLUICE_E_BACKEND_UNSUPPORTED',
  });
});
