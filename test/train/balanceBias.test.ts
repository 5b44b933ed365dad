import { balanceBiasName } from '@sluice/model';
import test from 'ava';
import { balanceChoice } from '../../packages/train/src/balanceBias.ts';
import type { Trainer } from '../../packages/train/src/trainer.ts';
import { counting, tinyRun, tinyTrainer } from './support/tinyTrainer.ts';

const EXPERTS = { count: 4, topK: 2, intermediateSize: 12, balanceCoefficient: 0 };

const runWith = (experts: object) => tinyRun({ model: { experts: { ...EXPERTS, ...experts } } });

function parameterOf(trainer: Trainer, name: string) {
  return trainer.spaces.flatMap(({ space }) => space.parameters).find(({ spec }) => spec.name === name)!
    .parameter;
}

const biasOf = (trainer: Trainer, layer: number) => [
  ...parameterOf(trainer, balanceBiasName(layer)).hostValues,
];

test.serial('after each step every bias moves by the rate towards the mean of the tokens', async (t) => {
  const rate = 2 ** -7;
  const trainer = await tinyTrainer(runWith({ balanceBias: { rate } }), { source: counting(3) });
  const expected = [0, 1].map(() => [0, 0, 0, 0]);
  let evenExperts = 0;
  for (let step = 1; step <= 12; step++) {
    const { expertLoad } = await trainer.trainStep({ step, learningRate: 0.01 });
    for (const [layer, loads] of expertLoad!.entries()) {
      // 64 of 4 · 8 · 2 tokens are 16 an expert; shares are in single precision.
      loads.forEach((load, e) => {
        const tokens = Math.round(load * 64);
        expected[layer]![e]! += rate * Math.sign(16 - tokens);
        if (tokens === 16) evenExperts++;
      });
      t.deepEqual(biasOf(trainer, layer), expected[layer], `step ${step}, layer ${layer}`);
    }
  }
  t.true(expected.flat().some((bias) => bias > 0) && expected.flat().some((bias) => bias < 0));
  t.true(evenExperts > 0);
});

test('an expert that has just the mean of the tokens keeps its bias', async (t) => {
  const { model } = runWith({ balanceBias: { rate: 0.25 } });
  const trainer = await tinyTrainer(runWith({ balanceBias: {} }));
  const { parameters } = trainer.spaces[0]!.space;
  balanceChoice(model, parameters, Float64Array.of(3, 1, 2, 2, 0, 0, 0, 8));
  t.deepEqual(biasOf(trainer, 0), [-0.25, 0.25, 0, 0]);
  t.deepEqual(biasOf(trainer, 1), [0.25, 0.25, 0.25, -0.25]);
});

for (const router of ['softmax', 'sigmoid'] as const) {
  test.serial(`${router}: a bias evens out the loads where all tokens want the same experts`, async (t) => {
    const largestMeanLoad = async (balanceBias: object | undefined) => {
      const trainer = await tinyTrainer(runWith({ router, balanceBias }));
      // All tokens look much the same, and a rate of next to nothing keeps them so.
      const embedding = parameterOf(trainer, 'model.embed_tokens.weight').hostValues;
      for (let i = 0; i < embedding.length; i++) embedding[i]! += 0.2;
      const loads = [0, 0, 0, 0];
      for (let step = 1; step <= 80; step++) {
        const { expertLoad } = await trainer.trainStep({ step, learningRate: 1e-9 });
        if (step > 40) for (const [e, load] of expertLoad![0]!.entries()) loads[e]! += load / 40;
      }
      return Math.max(...loads);
    };
    t.true((await largestMeanLoad(undefined)) > 0.45);
    t.true((await largestMeanLoad({})) < 0.3);
  });
}

test.serial('a step that is not applied moves no bias', async (t) => {
  const trainer = await tinyTrainer(runWith({ balanceBias: {} }));
  await trainer.trainStep({ step: 1, learningRate: 0.01 });
  const before = [biasOf(trainer, 0), biasOf(trainer, 1)];
  parameterOf(trainer, 'model.norm.weight').hostValues[0] = Number.NaN;
  t.false((await trainer.trainStep({ step: 2, learningRate: 0.01 })).applied);
  t.deepEqual([biasOf(trainer, 0), biasOf(trainer, 1)], before);
});

test.serial(
  'a bias is no weight that the optimizer moves, and does not count in the size of an update',
  async (t) => {
    const plain = await tinyTrainer(runWith({}));
    const biased = await tinyTrainer(runWith({ balanceBias: { rate: 0 } }));
    for (const layer of [0, 1]) parameterOf(biased, balanceBiasName(layer)).hostValues.fill(3);
    for (let step = 1; step <= 3; step++) {
      const request = { step, learningRate: 0.01 };
      // The same number for all experts changes no choice.
      const { loss, gradientNorm } = await biased.trainStep(request);
      const same = await plain.trainStep(request);
      t.is(loss, same.loss);
      t.is(gradientNorm, same.gradientNorm);
    }
    t.deepEqual(biasOf(biased, 0), [3, 3, 3, 3]);
    const [one, other] = [await plain.diagnose({ sequences: 2 }), await biased.diagnose({ sequences: 2 })];
    t.is(other.updateRatio, one.updateRatio);
    t.deepEqual(other.router!.biasRange, 0);
  },
);
