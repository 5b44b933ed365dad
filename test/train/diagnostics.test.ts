import { selectBackend } from '@sluice/engine';
import { balanceBiasName, type ModelConfig, type RecurrenceOperands } from '@sluice/model';
import { type Diagnostics, ForwardMeter, mergeTallies, summarize } from '@sluice/train';
import * as tf from '@tensorflow/tfjs';
import test, { type ExecutionContext } from 'ava';
import { type TinyDecoder, tinyDecoder, tinyModel, tokens } from '../model/support.ts';
import { type NaiveLayer, naiveForward } from './support/naiveDecoder.ts';

const SEQUENCES = 3;
const LENGTH = 11;

const models: Record<string, object> = {
  'an elementwise gate': {},
  'a headwise gate': { gate: { granularity: 'headwise' } },
  'no gate': { gate: { granularity: 'none' } },
  'two gates and a sink': {
    gates: [{ granularity: 'headwise' }, { position: 'value' }],
    controls: [{ kind: 'attention-sink' }],
  },
  'capped scores beside a sink, blocks with a norm and clipped': {
    gates: [],
    controls: [
      { kind: 'attention-sink' },
      { kind: 'softcap', attention: 1.2 },
      { kind: 'sandwich-norm', initialGain: 'depth-scaled' },
      { kind: 'clip-outputs', limit: 0.9 },
    ],
  },
  experts: { intermediateSize: undefined, experts: { count: 6, topK: 2, intermediateSize: 8 } },
  'experts of a sigmoid router, balanced by a bias': {
    intermediateSize: undefined,
    experts: {
      ...{ count: 6, topK: 2, intermediateSize: 8 },
      ...{ router: 'sigmoid', scalingFactor: 2.5, normalizeTopK: false, balanceBias: {} },
    },
  },
};

function measure({ decoder }: TinyDecoder, sequences = SEQUENCES): Diagnostics {
  const model = decoder.config;
  const meter = new ForwardMeter(model);
  decoder.observe({ inputs: tokens(SEQUENCES * LENGTH).slice(0, sequences * LENGTH), sequences }, meter);
  return summarize(model, meter.tally, { sequences, sequenceLength: LENGTH });
}

/** The same of all sequences, each in a pass of its own. */
function measureApart({ decoder }: TinyDecoder): Diagnostics {
  const model = decoder.config;
  const all = tokens(SEQUENCES * LENGTH);
  const parts = Array.from({ length: SEQUENCES }, (_, s) => {
    const meter = new ForwardMeter(model);
    decoder.observe({ inputs: all.slice(s * LENGTH, (s + 1) * LENGTH), sequences: 1 }, meter);
    return meter.tally;
  });
  return summarize(model, mergeTallies(model, parts), { sequences: SEQUENCES, sequenceLength: LENGTH });
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const share = (values: readonly number[], isCounted: (value: number) => boolean) =>
  values.filter(isCounted).length / values.length;
const maximum = (values: readonly number[]) => values.reduce((a, b) => Math.max(a, b));
const plogp = (weights: readonly number[]) => -weights.reduce((s, w) => s + (w > 0 ? w * Math.log(w) : 0), 0);

/** A layer's measurements, by their formulas. @param runs the layer's results, sequence by sequence */
function expectedLayer(model: ModelConfig, runs: readonly NaiveLayer[], bias: number[] | undefined) {
  const of = <T>(pick: (run: NaiveLayer) => T[]): T[] => runs.flatMap(pick);
  const rows = of((run) =>
    run.attention.flatMap((head, h) => head.map((row, i) => ({ row, i, sink: run.sink[h]![i]! }))),
  );
  const magnitudes = (values: readonly number[]) => {
    const all = values.map(Math.abs);
    return {
      meanAbsolute: mean(all),
      belowHundredth: share(all, (y) => y < 1e-2),
      belowThousandth: share(all, (y) => y < 1e-3),
    };
  };
  const gates = Object.keys(runs[0]!.scores)
    .sort()
    .map((name) => {
      const scores = of((run) => run.scores[name]!);
      return {
        name,
        mean: mean(scores),
        belowTwentieth: share(scores, (s) => s < 0.05),
        belowTenth: share(scores, (s) => s < 0.1),
        aboveNineTenths: share(scores, (s) => s > 0.9),
        histogram: Array.from({ length: 50 }, (_, b) => share(scores, (s) => Math.floor(s * 50) === b)),
      };
    });
  const routers = of((run) => (run.router ? [run.router] : []));
  const logits = routers.flatMap((router) => router.logits);
  const chosen = routers.flatMap((router) => router.chosen.flat());
  const load = Array.from({ length: model.experts?.count ?? 0 }, (_, e) => share(chosen, (c) => c === e));
  const total = (row: number[]) => row.reduce((sum, l) => sum + Math.exp(l), 0);
  const shares = (row: number[]) => {
    const scores = row.map((l) =>
      model.experts!.router === 'sigmoid' ? 1 / (1 + Math.exp(-l)) : Math.exp(l),
    );
    return scores.map((score) => score / scores.reduce((a, b) => a + b, 0));
  };
  return {
    firstTokenAttention: mean(rows.filter(({ i }) => i > 0).map(({ row }) => row[0]!)),
    firstTokenAttentionWithFirst: mean(rows.map(({ row }) => row[0]!)),
    firstTokenAttentionOfHeads: runs[0]!.attention.map((_, h) =>
      mean(of((run) => run.attention[h]!.slice(1).map((row) => row[0]!))),
    ),
    massiveActivation: maximum(of((run) => run.output.flat().map(Math.abs))),
    feedForwardActivation: maximum(of((run) => run.feedForward.flat().map(Math.abs))),
    gateScoreMean: gates.length === 0 ? null : mean(gates.map((gate) => gate.mean)),
    gates,
    attentionOutput: {
      before: magnitudes(of((run) => run.ungated.flat())),
      withMeanScore: runs[0]!.scores.sdpa_gate
        ? magnitudes(of((run) => run.ungated.flat().map((y) => y * mean(run.scores.sdpa_gate!))))
        : null,
      after: magnitudes(of((run) => run.gated.flat())),
    },
    largestAttentionLogit: maximum(of((run) => run.logits.flat(2))),
    attentionEntropy: mean(rows.map(({ row, sink }) => plogp([...row, sink]))),
    ...(model.experts && {
      router: {
        load,
        maxViolation: maximum(load) * load.length - 1,
        entropy: mean(logits.map((row) => plogp(shares(row)))),
        loadEntropy: plogp(load),
        deadExperts: load.filter((l) => l === 0).length,
        z: mean(logits.map((row) => Math.log(total(row)) ** 2)),
        ...(bias && { bias, biasRange: maximum(bias) - Math.min(...bias) }),
      },
    }),
  };
}

function biasOf({ parameters }: TinyDecoder, layer: number): number[] | undefined {
  const bias = parameters.get(balanceBiasName(layer));
  return bias && [...bias.hostValues];
}

/** Every number of `expected`, wherever it stands, is found in `actual`, nearly the same. */
function near(
  t: ExecutionContext,
  actual: unknown,
  expected: unknown,
  path: string,
  tolerance: number,
): void {
  if (typeof expected === 'number') {
    const error = Math.abs((actual as number) - expected) / Math.max(0.05, Math.abs(expected));
    t.true(error < tolerance, `${path}: ${actual} is not ${expected}`);
  } else if (typeof expected === 'object' && expected !== null) {
    for (const [key, value] of Object.entries(expected))
      near(t, (actual as Record<string, unknown>)[key], value, `${path}.${key}`, tolerance);
  } else t.deepEqual(actual, expected, path);
}

for (const backend of ['native', 'cpu']) {
  for (const [name, keys] of Object.entries(models)) {
    test.serial(`${backend}: every measurement is what its formula says, with ${name}`, async (t) => {
      await selectBackend(backend);
      const model = tinyModel({ numLayers: 2, ...keys });
      const tiny = tinyDecoder(model);
      const all = tokens(SEQUENCES * LENGTH);
      const runs = Array.from({ length: SEQUENCES }, (_, s) =>
        naiveForward(model, tiny.parameters, all.subarray(s * LENGTH, (s + 1) * LENGTH)),
      );
      const actual = measure(tiny);
      const layers = Array.from({ length: 2 }, (_, layer) =>
        expectedLayer(
          model,
          runs.map((run) => run[layer]!),
          biasOf(tiny, layer),
        ),
      );
      near(t, actual.layers, layers, 'layers', 2e-5);

      const { firstTokenAttention, massiveActivation, gateScoreMean, ...overall } = actual;
      const over = (pick: (layer: (typeof layers)[number]) => number) => layers.map(pick);
      near(t, firstTokenAttention, mean(over((l) => l.firstTokenAttention)), 'firstTokenAttention', 2e-5);
      near(t, massiveActivation, mean(over((l) => l.massiveActivation)), 'massiveActivation', 2e-5);
      near(
        t,
        overall.largestActivation,
        maximum(over((l) => l.massiveActivation)),
        'largestActivation',
        2e-5,
      );
      near(
        t,
        overall.largestFeedForwardActivation,
        maximum(over((l) => l.feedForwardActivation)),
        'feedForward',
        2e-5,
      );
      near(t, overall.largestAttentionLogit, maximum(over((l) => l.largestAttentionLogit)), 'logit', 2e-5);
      near(t, overall.attentionEntropy, mean(over((l) => l.attentionEntropy)), 'entropy', 2e-5);
      near(
        t,
        overall.attentionOutput!.after.belowHundredth,
        mean(over((l) => l.attentionOutput.after.belowHundredth)),
        'below',
        2e-5,
      );
      const scaled = overall.attentionOutput!.withMeanScore;
      const below = (l: (typeof layers)[number]) => l.attentionOutput.withMeanScore?.belowHundredth;
      near(
        t,
        scaled?.belowHundredth ?? null,
        scaled && mean(over((l) => below(l)!)),
        'below with the mean score',
        2e-5,
      );
      t.is(
        scaled === null,
        model.gates.every(({ granularity }) => granularity === 'none'),
      );
      const scores = over((l) => l.gateScoreMean ?? Number.NaN);
      near(t, gateScoreMean, layers[0]!.gateScoreMean === null ? null : mean(scores), 'gateScoreMean', 2e-5);
      t.is(overall.updateRatio, null);
      t.is(overall.router === undefined, model.experts === undefined);
    });
  }
}

test.serial(
  'gates that heads or tokens share, additive ones and those at other positions are measured',
  async (t) => {
    await selectBackend('native');
    const gates = [
      { position: 'sdpa', sharing: 'head-shared', activation: 'ns-sigmoid' },
      { position: 'sdpa', form: 'additive', activation: 'silu', granularity: 'headwise' },
      { position: 'query' },
      { position: 'output', input: 'input-independent', initialLogit: 0 },
    ];
    const { layers, gates: overall } = measure(tinyDecoder(tinyModel({ gates, qkNorm: false }), 0));
    t.deepEqual(
      overall.map(({ name, position }) => [name, position]),
      [
        ['sdpa_gate', 'sdpa'],
        ['sdpa_gate_2', 'sdpa'],
        ['query_gate', 'query'],
        ['output_gate', 'output'],
      ],
    );
    const [shared, additive, query, fixed] = layers[0]!.gates;
    t.true(Math.abs(shared!.mean - 0.75) < 0.02);
    t.is(shared!.belowTenth, 0);
    t.true(Math.abs(additive!.mean) < 0.05);
    t.true(Math.abs(query!.mean - 0.5) < 0.02);
    t.is(fixed!.mean, 0.5);
    t.is(fixed!.histogram[25], 1);
    t.is(fixed!.largestWeightNorm, 0);
    // Two key-value heads have 4 query heads, whose 16 · 8 weights are of deviation 0.02.
    t.is(shared!.weightNorms!.length, 4);
    for (const norm of shared!.weightNorms!) t.true(Math.abs(norm / (0.02 * Math.sqrt(16 * 8)) - 1) < 0.25);
    // An additive gate has no score to scale by.
    t.is(layers[0]!.attentionOutput!.withMeanScore, null);
  },
);

test.serial('gates that are the same everywhere do what their mean scores do', async (t) => {
  await selectBackend('native');
  const same = { granularity: 'headwise', input: 'input-independent' };
  const gates = [
    { ...same, initialLogit: -3 },
    { ...same, initialLogit: -1 },
    { ...same, position: 'value', initialLogit: 1 },
  ];
  const tiny = tinyDecoder(tinyModel({ gates, numLayers: 2 }));
  for (const [name, { hostValues }] of tiny.parameters)
    if (/sdpa_gate/.test(name)) hostValues.fill(name.includes('_2') ? -1 : -3);
  const { layers, attentionOutput } = measure(tiny);
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
  for (const { attentionOutput: output } of layers) {
    near(t, output!.withMeanScore, output!.after, 'attentionOutput', 1e-6);
    const factor = output!.withMeanScore!.meanAbsolute / output!.before.meanAbsolute;
    near(t, factor, sigmoid(-3) * sigmoid(-1), 'factor', 1e-6);
  }
  t.true(attentionOutput!.withMeanScore!.belowHundredth > attentionOutput!.before.belowHundredth);
});

test.serial('how sequences share passes does not change what mean scores would do', async (t) => {
  await selectBackend('native');
  const tiny = tinyDecoder(tinyModel());
  const apart = measureApart(tiny).attentionOutput!.withMeanScore!;
  const together = measure(tiny).attentionOutput!.withMeanScore!;
  t.is(apart.belowHundredth, together.belowHundredth);
  t.true(Math.abs(apart.meanAbsolute - together.meanAbsolute) < 1e-12);
});

test.serial('a measured pass has the results of a plain one', async (t) => {
  await selectBackend('native');
  const { decoder, parameters } = tinyDecoder(tinyModel({ numLayers: 2 }));
  const batch = { inputs: tokens(SEQUENCES * LENGTH), sequences: SEQUENCES };
  let last = new Float32Array();
  decoder.observe(batch, {
    layerOutput: (_, x_NC) => {
      last = x_NC.slice();
    },
  });
  // Without an observer, gate and attention are one kernel.
  const logits_NV = decoder.logits(batch);
  const [head, gain] = ['lm_head.weight', 'model.norm.weight'].map(
    (name) => parameters.get(name)!.hostValues,
  );
  const row = last.subarray(0, 16);
  const root = Math.sqrt(row.reduce((sum, x) => sum + x * x, 0) / 16 + 1e-6);
  const expected = row.reduce((sum, x, i) => sum + (x / root) * gain![i]! * head![i]!, 0);
  t.true(Math.abs(logits_NV.dataSync()[0]! - expected) < 1e-5);
  logits_NV.dispose();
});

test.serial(
  'without an observer nothing more is computed, and with one nothing is left behind',
  async (t) => {
    await selectBackend('native');
    const { decoder } = tinyDecoder(tinyModel({ numLayers: 2 }));
    const batch = { inputs: tokens(SEQUENCES * LENGTH), sequences: SEQUENCES };
    const kernels = async (run: () => void) =>
      (
        await tf.profile(() => {
          run();
          return tf.scalar(0);
        })
      ).kernels.map(({ name }) => name);
    const plain = await kernels(() => decoder.logits(batch).dispose());
    const perLayer = [
      'SluiceRmsNorm',
      'SluiceLinear',
      'SluiceAttentionHeads',
      'SluiceGatedAttention',
      'SluiceLinear',
    ];
    t.deepEqual(plain.filter((name) => !/SluiceEmbedding/.test(name)).slice(0, perLayer.length), perLayer);
    t.false(plain.some((name) => ['Sigmoid', 'Multiply', 'SluiceAttention'].includes(name)));
    const before = tf.memory().numTensors;
    measure({ decoder, parameters: new Map() });
    t.is(tf.memory().numTensors, before);
  },
);

test('a tally of parts is the tally of the whole', async (t) => {
  await selectBackend('native');
  const tiny = tinyDecoder(tinyModel(models.experts));
  near(t, measureApart(tiny), measure(tiny), 'diagnostics', 1e-6);
});

test.serial(
  'layers without attention have null for what is of attention, and overall numbers leave them out',
  async (t) => {
    await selectBackend('native');
    const mixer = { kind: 'gated-delta-net', keyHeads: 1, valueHeads: 2, keyDim: 4, valueDim: 4 };
    const layers = {
      kinds: { linear: { mixer }, conv: { mixer: { kind: 'short-convolution' } }, full: {} },
      pattern: ['linear', 'conv', 'full'],
    };
    const tiny = tinyDecoder(tinyModel({ numLayers: 3, layers }));
    const overall = measure(tiny);
    const [linear, conv, full] = overall.layers;
    for (const layer of [linear!, conv!]) {
      t.is(layer.firstTokenAttention, null);
      t.is(layer.attentionOutput, null);
      t.deepEqual(layer.gates, []);
      t.true(layer.massiveActivation > 0);
    }
    t.deepEqual(
      [linear!.mixer, conv!.mixer, full!.mixer],
      ['gated-delta-net', 'short-convolution', undefined],
    );
    for (const name of [
      'firstTokenAttention',
      'attentionEntropy',
      'largestAttentionLogit',
      'gateScoreMean',
    ] as const)
      t.is(overall[name], full![name]);
    t.deepEqual(overall.attentionOutput, full!.attentionOutput);
    t.deepEqual(overall.recurrence, linear!.recurrence);
    // What a token keeps and replaces, from the logits.
    const [x, { aLog, dtBias, mostBeta, decay }] = recurrenceOf(tiny);
    t.is(x, 0);
    const kept = mean(
      Array.from(decay, (logit, i) =>
        Math.exp(-Math.exp(aLog[i % 2]!) * Math.log1p(Math.exp(logit + dtBias[i % 2]!))),
      ),
    );
    t.true(Math.abs(linear!.recurrence!.keptMean - kept) < 1e-12);
    t.is(mostBeta, 1);
    t.is(conv!.recurrence, undefined);
    t.is(measure(tinyDecoder(tinyModel({ mixer }))).firstTokenAttention, null);
  },
);

test.serial(
  'decays of single channels, and values narrower than keys, are measured as they are',
  async (t) => {
    await selectBackend('native');
    const mixer = { kind: 'kimi-delta-attention', heads: 2, keyDim: 3, valueDim: 4 };
    const tiny = tinyDecoder(
      tinyModel({
        ...{ numLayers: 2, numKeyValueHeads: 4, qkNorm: false, gates: [], positions: 'none' },
        keyValueLatent: { rank: 4, sharedKeyDim: 2, valueDim: 5 },
        layers: { kinds: { linear: { mixer }, full: {} }, pattern: ['linear', 'full'] },
      }),
    );
    const [linear, full] = measure(tiny).layers;
    const [, { aLog, dtBias, decay }] = recurrenceOf(tiny);
    t.is(dtBias.length, 6);
    const kept = Array.from(decay, (logit, i) =>
      Math.exp(-Math.exp(aLog[Math.floor((i % 6) / 3)]!) * Math.log1p(Math.exp(logit + dtBias[i % 6]!))),
    );
    t.true(Math.abs(linear!.recurrence!.keptMean - mean(kept)) < 1e-12);
    t.true(linear!.recurrence!.betaMean > 0 && linear!.recurrence!.betaMean < 1);
    // Without a gate they are the same, and zeros that fill values up do not count.
    t.deepEqual(full!.attentionOutput!.before, full!.attentionOutput!.after);
    t.true(full!.firstTokenAttention! > 0);
  },
);

/** The layer that told of its recurrence, and what it told. */
function recurrenceOf({ decoder }: TinyDecoder) {
  let told: [number, RecurrenceOperands] | undefined;
  decoder.observe(
    { inputs: tokens(SEQUENCES * LENGTH), sequences: SEQUENCES },
    {
      recurrence(layer, operands) {
        told = [layer, { ...operands, decay: operands.decay.slice() }];
      },
    },
  );
  return told!;
}

test.serial('the weights of a gate are measured head by head, interleaved with queries or not', async (t) => {
  await selectBackend('native');
  const normsOf = (keys: object) => {
    const tiny = tinyDecoder(tinyModel(keys));
    return { tiny, gates: measure(tiny).layers[0]!.gates };
  };
  const rowsNorm = (values: Float32Array, begin: number, rows: number) =>
    Math.hypot(...values.subarray(begin * 16, (begin + rows) * 16));
  // Rows of `q_proj`: 2 heads of 8 queries, and their gates, for each of 2 key-value heads.
  const elementwise = normsOf({});
  const projection = elementwise.tiny.parameters.get('model.layers.0.self_attn.qkv_proj.weight')!.hostValues;
  near(
    t,
    elementwise.gates[0]!.weightNorms,
    [16, 24, 48, 56].map((row) => rowsNorm(projection, row, 8)),
    'elementwise',
    1e-6,
  );
  const own = normsOf({ gate: { granularity: 'headwise', activation: 'softplus' } });
  const values = own.tiny.parameters.get('model.layers.0.self_attn.sdpa_gate.weight')!.hostValues;
  near(
    t,
    own.gates[0]!.weightNorms,
    [0, 1, 2, 3].map((row) => rowsNorm(values, row, 1)),
    'headwise',
    1e-6,
  );
  t.is(own.gates[0]!.largestWeightNorm, Math.max(...own.gates[0]!.weightNorms!));
});
