import { hostArray } from '@sluice/engine';
import type { RunConfig } from '@sluice/train';
import test from 'ava';
import { headFactors } from '../../packages/train/src/optimizer/qkClip.ts';
import { severalBlocks, tinyRun, tinyTrainer } from './support/tinyTrainer.ts';

const closeTo = (one: number, other: number) => Math.abs(one - other) < 1e-12;

test('a head with keys of its own scales queries and keys by the root of what it needs', (t) => {
  const { query, key } = headFactors(Float64Array.of(50, 400), 2, 100);
  t.deepEqual([...query], [1, 0.5]);
  t.deepEqual([...key], [1, 0.5]);
});

test('where heads share keys, each gets the factor that it needs, and none that it does not', (t) => {
  const largest = Float64Array.of(400, 200, 1000, 50, 150, 150);
  const { query, key } = headFactors(largest, 3, 100);
  for (const [head, logit] of largest.entries()) {
    const factor = query[head]! * key[head >> 1]!;
    t.true(closeTo(factor, Math.min(1, 100 / logit)), `head ${head}: ${factor}`);
  }
  t.is(key[0], Math.sqrt(0.5));
  t.is(key[1], 1, 'keys of a head below the threshold stay');
  t.true(closeTo(query[4]!, key[2]!));
});

const logitsRun = (model: object, optimizer: object): RunConfig =>
  tinyRun({ model: { numLayers: 1, qkNorm: false, initializerRange: 0.4, ...model }, optimizer });

const MODELS = {
  'an interleaved gate': { gate: { granularity: 'headwise' } },
  'grouped keys, gated queries': {
    ...{ numAttentionHeads: 4, numKeyValueHeads: 2 },
    gates: [{}, { position: 'query' }, { position: 'key', granularity: 'headwise' }],
  },
  'switched keys and a sink': {
    gates: [],
    controls: [
      { kind: 'switch-head', projections: 'key-value', count: 3, topK: 2 },
      { kind: 'attention-sink' },
    ],
  },
};

for (const [name, model] of Object.entries(MODELS)) {
  test.serial(
    `${name}: after a clipped step the same batch has the threshold for its largest logit`,
    async (t) => {
      const request = { step: 1, learningRate: 0, firstSample: 0 };
      const plain = await tinyTrainer(logitsRun(model, { qkClip: { threshold: 1e9 } }));
      const first = await plain.trainStep(request);
      t.is(first.clippedHeads, 0);
      const threshold = first.largestAttentionLogit! / 3;
      const trainer = await tinyTrainer(logitsRun(model, { qkClip: { threshold } }));
      const clipped = await trainer.trainStep(request);
      t.is(clipped.largestAttentionLogit, first.largestAttentionLogit);
      t.true(clipped.clippedHeads! > 0);
      const after = await trainer.trainStep(request);
      t.true(Math.abs(after.largestAttentionLogit! / threshold - 1) < 1e-4, `${after.largestAttentionLogit}`);
      const other = await trainer.trainStep({ ...request, learningRate: 0 });
      t.true(other.largestAttentionLogit! <= threshold * (1 + 1e-4));
    },
  );
}

test.serial('the largest logit is the one that a diagnosis measures', async (t) => {
  const trainer = await tinyTrainer(logitsRun({ numLayers: 2 }, { qkClip: { threshold: 1e9 } }));
  const { largestAttentionLogit } = await trainer.trainStep({ step: 1, learningRate: 0, firstSample: 0 });
  const measured = (await trainer.diagnose({ sequences: 4 })).largestAttentionLogit!;
  t.true(Math.abs(largestAttentionLogit! / measured - 1) < 1e-5);
});

test.serial(
  'without QK-clip nothing is said of logits, and an observer of them changes no bit',
  async (t) => {
    const weights = async (optimizer: object) => {
      const trainer = await tinyTrainer(logitsRun(MODELS['an interleaved gate'], optimizer));
      const result = await trainer.trainStep({ step: 1, learningRate: 0.01 });
      t.is('clippedHeads' in result, 'qkClip' in optimizer);
      return trainer.spaces.map(({ space }) => hostArray(space.memories[0]!.values).slice());
    };
    t.deepEqual(await weights({ qkClip: { threshold: 1e9 } }), await weights({}));
  },
);

test.serial('a step whose update is not applied clips nothing', async (t) => {
  const trainer = await tinyTrainer(logitsRun({}, { qkClip: { threshold: 1e-3 } }));
  const limits = { loss: 0, gradientNorm: 0 };
  const before = trainer.spaces.map(({ space }) => hostArray(space.memories[0]!.values).slice());
  const result = await trainer.trainStep({ step: 1, learningRate: 0.01, limits, skipOutlying: true });
  t.false(result.applied);
  t.deepEqual(
    trainer.spaces.map(({ space }) => space.memories[0]!.values),
    before,
  );
});

for (const kind of ['adamw', 'muon'] as const) {
  test.serial(`${kind}: the size of an update does not count what is clipped after it`, async (t) => {
    const sizes = async (threshold: number) => {
      const config = tinyRun({
        model: { ...severalBlocks, qkNorm: false, initializerRange: 0.3 },
        optimizer: { kind, qkClip: { threshold } },
      });
      const trainer = await tinyTrainer(config);
      const { clippedHeads } = await trainer.trainStep({ step: 1, learningRate: 0.01 });
      const { updateRatio, layers } = await trainer.diagnose({ sequences: 1 });
      return { clippedHeads, ratios: [updateRatio!, ...layers.map((layer) => layer.updateRatio!)] };
    };
    const [clipped, free] = [await sizes(0.5), await sizes(1e9)];
    t.true(clipped.clippedHeads! > 0 && free.clippedHeads === 0);
    for (const [i, ratio] of clipped.ratios.entries()) t.true(Math.abs(ratio / free.ratios[i]! - 1) < 1e-4);
  });
}
