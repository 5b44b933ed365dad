/** Which tensor is updated by what, and with which settings. */

import { ModelConfig, modelParameters } from '@sluice/model';
import { OptimizerConfig } from '@sluice/train';
import test from 'ava';
import { muonMatrix, tensorSettings } from '../../packages/train/src/optimizer/settings.ts';
import { severalBlocks, tinyRun, tinyTrainer } from './support/tinyTrainer.ts';

const optimizer = (settings: object = {}) => OptimizerConfig.parse({ learningRate: 0.01, ...settings });

const model = ModelConfig.parse({
  vocabularySize: 24,
  hiddenSize: 16,
  numLayers: 1,
  numAttentionHeads: 2,
  numKeyValueHeads: 1,
  headDim: 8,
  experts: { count: 2, topK: 1, intermediateSize: 12 },
  gates: [{}, { position: 'value', initialLogit: 1 }, { position: 'output', input: 'input-independent' }],
  controls: [{ kind: 'attention-sink' }, { kind: 'switch-head', count: 2, topK: 1 }],
});

test('Muon updates the matrices of attention, gates, experts and routers, AdamW the rest', (t) => {
  const names = (kind: 'adamw' | 'muon') =>
    modelParameters(model).flatMap((spec) =>
      spec.tensors.filter((tensor) => muonMatrix({ kind }, spec, tensor)).map(({ name }) => name),
    );
  t.deepEqual(names('adamw'), []);
  const [attention, mlp] = ['model.layers.0.self_attn', 'model.layers.0.mlp'];
  t.deepEqual(names('muon').sort(), [
    ...[0, 1].flatMap((e) =>
      ['down', 'gate', 'up'].map((which) => `${mlp}.experts.${e}.${which}_proj.weight`),
    ),
    `${mlp}.gate.weight`,
    `${attention}.k_proj.weight`,
    `${attention}.o_proj.weight`,
    `${attention}.q_proj.weight`,
    `${attention}.v_proj.experts.0.weight`,
    `${attention}.v_proj.experts.1.weight`,
    `${attention}.value_gate.weight`,
    `${attention}.value_router.weight`,
  ]);
});

test('a group has what it says in place of what the others have', (t) => {
  const config = optimizer({
    weightDecay: 0.2,
    groups: {
      embedding: { learningRate: 0.03, weightDecay: 0 },
      attention: { weightDecay: 0.5 },
      norms: { weightDecay: 0.4 },
      router: { learningRateScale: 0.1 },
    },
  });
  const settings = (group: Parameters<typeof tensorSettings>[1]['group'], decay = true) =>
    tensorSettings(config, { group, decay });
  t.deepEqual(settings('head'), { group: 'head', rateScale: 1, weightDecay: 0.2 });
  t.deepEqual(settings('embedding'), { group: 'embedding', rateScale: 3, weightDecay: 0 });
  t.deepEqual(settings('norms', false), { group: 'norms', rateScale: 1, weightDecay: 0.4 });
  t.deepEqual(settings('attention'), { group: 'attention', rateScale: 1, weightDecay: 0.5 });
  t.is(settings('attention', false).weightDecay, 0, 'a sink is no matrix');
  t.deepEqual(settings('router'), { group: 'router', rateScale: 0.1, weightDecay: 0.2 });
  t.is(tensorSettings(optimizer(), { group: 'norms', decay: false }).weightDecay, 0);
});

test('settings that have no effect, or contradict each other, are refused', (t) => {
  const issue = (settings: object) =>
    OptimizerConfig.safeParse({ learningRate: 1, ...settings }).error?.issues[0];
  t.like(issue({ muon: { momentum: 0.9 } }), { path: ['muon'] });
  t.like(issue({ clip: 'groups', adaptiveClip: {} }), { path: ['adaptiveClip'] });
  t.like(issue({ groups: { head: { learningRate: 1, learningRateScale: 1 } } }), {
    path: ['groups', 'head', 'learningRateScale'],
  });
  t.deepEqual(optimizer({ kind: 'muon' }).muon, { momentum: 0.95, iterations: 5 });
  t.false('muon' in optimizer());
  const resolved = optimizer({ kind: 'muon', clip: 'adaptive', groups: { head: { learningRateScale: 0 } } });
  t.deepEqual(OptimizerConfig.parse(resolved), resolved);
});

for (const kind of ['adamw', 'muon'] as const) {
  test.serial(`${kind}: a group at rate 0 stays as it is, another moves as fast as it is told`, async (t) => {
    const movesWith = async (groups: object) => {
      const config = tinyRun({ model: severalBlocks, optimizer: { kind, weightDecay: 0, groups } });
      const trainer = await tinyTrainer(config);
      const placed = trainer.spaces.flatMap(({ space }) => space.parameters);
      const before = placed.map(({ parameter }) => parameter.hostValues.slice());
      await trainer.trainStep({ step: 1, learningRate: 0.01 });
      const moves = placed.map(({ spec, parameter }, i) => {
        const squares = parameter.hostValues.map((value, j) => (value - before[i]![j]!) ** 2);
        return [spec.group, Math.sqrt(squares.reduce((sum, square) => sum + square))] as const;
      });
      return (group: string) => moves.filter(([of]) => of === group).map(([, move]) => move);
    };
    const plain = await movesWith({});
    const grouped = await movesWith({
      embedding: { learningRateScale: 0 },
      attention: { learningRateScale: 0.5 },
      experts: { learningRate: 0.02 },
    });
    t.true(plain('embedding')[0]! > 0);
    t.deepEqual(grouped('embedding'), [0]);
    t.deepEqual(grouped('router'), plain('router'));
    const isNear = (one: number, other: number) => Math.abs(one / other - 1) < 1e-3;
    t.true(grouped('attention').every((move, i) => isNear(move, plain('attention')[i]! / 2)));
    t.true(grouped('experts').every((move, i) => isNear(move, plain('experts')[i]! * 2)));
  });
}

test.serial(
  'gates decay by themselves where that is asked for, interleaved with the queries or not',
  async (t) => {
    const gates = [{}, { position: 'value' }];
    const weightsAfter = async (settings: object) => {
      // Without a gradient of its own weight, decay is all that moves one: so big a rate that it shows.
      const config = tinyRun({ model: { gates }, optimizer: { weightDecay: 0.1, ...settings } });
      const trainer = await tinyTrainer(config);
      await trainer.trainStep({ step: 1, learningRate: 0.01 });
      const placed = trainer.spaces.flatMap(({ space }) => space.parameters);
      return new Map(placed.map(({ spec, parameter }) => [spec.name, parameter.hostValues.slice()]));
    };
    const [plain, kept] = [await weightsAfter({}), await weightsAfter({ gateWeightDecay: 0 })];
    const ratios = (name: string, begin: number, end: number) =>
      [...kept.get(name)!.subarray(begin, end)].map((value, i) => value - plain.get(name)![begin + i]!);
    const projection = 'model.layers.0.self_attn.qkv_proj.weight';
    // 16 rows of queries, 16 of their gate, 8 of keys, 8 of values; 16 columns.
    t.true(ratios(projection, 0, 16 * 16).every((difference) => difference === 0));
    t.true(ratios(projection, 32 * 16, 48 * 16).every((difference) => difference === 0));
    const before = trainedBefore(await tinyTrainer(tinyRun({ model: { gates } })));
    for (const [name, begin, end] of [
      [projection, 16 * 16, 32 * 16],
      ['model.layers.0.self_attn.value_gate.weight', 0, 8 * 16],
    ] as const) {
      const initial = before.get(name)!.subarray(begin, end);
      const differences = ratios(name, begin, end);
      // What does not decay keeps a thousandth: rate 0.01 times decay 0.1.
      t.true(
        differences.every((difference, i) => Math.abs(difference - initial[i]! / 1000) < 1e-6),
        name,
      );
    }
    t.like(
      OptimizerConfig.safeParse({ learningRate: 1, gateWeightDecay: 0, groups: { gate: { weightDecay: 1 } } })
        .error?.issues[0],
      {
        path: ['gateWeightDecay'],
      },
    );
  },
);

function trainedBefore({ spaces }: Awaited<ReturnType<typeof tinyTrainer>>): Map<string, Float32Array> {
  const placed = spaces.flatMap(({ space }) => space.parameters);
  return new Map(placed.map(({ spec, parameter }) => [spec.name, parameter.hostValues.slice()]));
}
