/** Mistakes planted in kernels, each of which must be found. */

import { gateWidth, planOnHost, projectionWidth, rotaryTable } from '@sluice/engine';
import {
  attentionErrors,
  attentionHeads,
  attentionHeadsBackward,
  CountedRows,
  cachedAttention,
  combineTokens,
  combineTokensBackward,
  type DeviceArray,
  deltaRuleBackward,
  deltaRule as deltaRuleOf,
  type Emulator,
  flat,
  gateHeadsBackward,
  LAYOUT,
  type ProductName,
  planRows,
  productCase,
  type RecurrenceOperands,
  routeTokens,
  routeTokensBackward,
  shortConvolutionBackward,
} from '@sluice/engine/cuda';
import test from 'ava';
import {
  activations,
  emulator,
  errorsOf,
  gradientsInPlace,
  productError,
  rmsNormErrors,
} from '../support/cuda.ts';
import { findAll, instead, type Mutant, otherValues } from '../support/cudaMutants.ts';
import { randomValues } from '../support/differential.ts';

const norm = ({ device: on }: Emulator) =>
  Math.max(...Object.values(rmsNormErrors(on, { rows: 9, width: 72, storage: 'bf16', seed: 3 })));
const products = ({ device: on }: Emulator) =>
  Math.max(
    productError(on, 'matmul', { M: 72, N: 72, K: 200 }, 1),
    productError(on, 'matmulPlain', { M: 72, N: 72, K: 200 }, 2),
    productError(on, 'matmulTransposed', { M: 72, N: 72, K: 200 }, 3),
  );
const attention = ({ device: on }: Emulator) =>
  Math.max(...Object.values(attentionErrors(on, { ...LAYOUT, sequence: 140, window: 100 })));
const wideAttention = ({ device: on }: Emulator) =>
  Math.max(...Object.values(attentionErrors(on, { ...LAYOUT, sequence: 70, heads: 1, headDim: 256 })));
const cappedAttention = ({ device: on }: Emulator) =>
  Math.max(...Object.values(attentionErrors(on, { ...LAYOUT, sequence: 20, scoreCap: 0.2 })));
const floatProducts = ({ device: on }: Emulator) => {
  const shape = { M: 70, N: 67, K: 523 };
  const error = (name: ProductName) => errorsOf(productCase(on, name, shape, { operands: 'f32' })).y!;
  return Math.max(error('matmul'), error('matmulPlain'), error('matmulTransposed'));
};
const floatAttention = ({ device: on }: Emulator) =>
  Math.max(...Object.values(attentionErrors(on, { ...LAYOUT, sequence: 70, window: 50 }, 1, 'f32')));
const norms = ({ device: on }: Emulator) => {
  const values = randomValues(1, 3000);
  const sums = on.allocate(3, 'f64');
  flat.squaredNorms(sums, on.upload(values, 'f32'), 1024);
  const exact = values.subarray(0, 1024).reduce((sum, value) => sum + value * value, 0);
  return Math.abs(sums.read()[0]! / exact - 1) / 1e-6;
};

/** The heads of a projection, and the gradients from them. */
const heads = otherValues((on) => {
  const layout = { ...LAYOUT, sequence: 70 };
  const tokens = layout.sequence;
  const table = rotaryTable(tokens, layout.headDim, 10_000);
  const bf16 = (seed: number, width: number) => activations(on, seed, tokens * width, 'bf16').array;
  const gain = (seed: number) => activations(on, seed, layout.headDim, 'f32').array;
  const operands = {
    projection: bf16(1, projectionWidth(layout)),
    ...{ qGain: gain(2), kGain: gain(3) },
    cosine: on.upload(table.cos, 'f32'),
    sine: on.upload(table.sin, 'f32'),
    position: on.upload(
      Int32Array.from({ length: tokens }, (_, i) => i),
      'i32',
    ),
  };
  const [q, k, v, gate] = [
    bf16(4, layout.heads * layout.headDim),
    ...[bf16(5, layout.keyValueHeads * layout.headDim), bf16(6, layout.keyValueHeads * layout.headDim)],
    bf16(7, gateWidth(layout)),
  ] as const;
  const dProjection = bf16(8, projectionWidth(layout));
  const [dqGain, dkGain] = [gain(9), gain(10)];
  const written = (values: DeviceArray<'f32'>) => ({ values, accumulate: false });
  const gradients = { dProjection, dqGain: written(dqGain), dkGain: written(dkGain) };
  attentionHeadsBackward(operands, { q, k, v, gate }, gradients, layout);
  attentionHeads(operands, { q, k, v, gate }, layout);
  return [q, k, v, gate, dProjection, dqGain, dkGain];
});

/** The gradients of attention and its headwise gate, in the places of what they are made of. */
const inPlace = otherValues((on) =>
  gradientsInPlace(on, { ...LAYOUT, sequence: 20, gate: 'headwise' }, 'bf16'),
);

/** The gradients of a headwise gate, in the places of what they are made of. */
const gates = otherValues((on) => {
  const gate = { heads: 3, channels: 40, activation: 'silu', isShared: false } as const;
  const [y, dOut] = [1, 2].map((seed) => activations(on, seed, 19 * 120, 'bf16').array);
  const logits = activations(on, 3, 19 * 3, 'bf16').array;
  gateHeadsBackward({ y: y!, logits, dOut: dOut! }, { dy: dOut!, dLogits: logits }, gate);
  return [dOut!, logits];
});

/** Tokens from experts, and the gradients. */
const combined = otherValues((on) => {
  const [order, position] = planOnHost(Int32Array.of(0, 1, 1, 2, 2, 0), 3).map((indices) =>
    on.upload(indices, 'i32'),
  ) as [DeviceArray<'i32'>, DeviceArray<'i32'>];
  const rows = (seed: number, count: number) => activations(on, seed, count * 40, 'bf16').array;
  const [y, out, dy] = [rows(1, 6), rows(2, 3), rows(3, 6)];
  const [weights, dWeights] = [activations(on, 4, 6, 'f32').array, activations(on, 5, 6, 'f32').array];
  combineTokens(y, weights, position, out, 2);
  combineTokensBackward({ y, weights, order, dOut: out }, { dy, dWeights }, 2);
  return [out, dy, dWeights];
});

/** Experts chosen in groups, and the gradients. */
const routed = otherValues((on) => {
  const [tokens, experts, topK] = [9, 40, 4];
  const f32 = (seed: number, length: number) => activations(on, seed, length, 'f32').array;
  const [weights, indices] = [on.allocate(tokens * topK, 'f32'), on.allocate(tokens * topK, 'i32')];
  const [auxiliary, dLogits] = [on.allocate(1, 'f32'), on.allocate(tokens * experts, 'f32')];
  const options = {
    ...{ topK, normalizeTopK: true, balanceCoefficient: 0.5, zCoefficient: 0.3, totalTokens: tokens },
    ...{ loads: randomValues(7, experts), groups: { count: 8, topK: 3 } },
  };
  // Many of them equal.
  const logits = randomValues(1, tokens * experts).map((logit) => Math.round(4 * logit) / 4);
  const operands = { logits: on.upload(logits, 'f32'), options };
  routeTokens(operands, { weights, indices, auxiliary });
  routeTokensBackward(operands, { indices, dWeights: f32(2, tokens * topK), dAuxiliary: f32(3, 1) }, dLogits);
  return [weights, indices, auxiliary, dLogits];
});

/** Rows of three parts of slots, and tiles of them. */
const planned = otherValues((on) => {
  const [slots, experts] = [1030, 7];
  const chosen = Int32Array.from(randomValues(1, slots), (x) => Math.floor(((x + 1) / 2) * experts));
  const [order, position] = [on.allocate(slots, 'i32'), on.allocate(slots, 'i32')];
  const counts = on.allocate(experts, 'i32');
  planRows(on.upload(chosen, 'i32'), { order, position, counts });
  const rows = new CountedRows(counts, slots);
  return [order, position, counts, rows.tiles(64), rows.segmentsOf(0, experts)];
});

/** The gradients of a convolution over two documents. */
const convolved = otherValues((on) => {
  const [rows, channels, taps] = [70, 5, 3];
  const [x, dy] = [1, 2].map((seed) => activations(on, seed, rows * channels, 'bf16').array);
  const [weights, dWeights] = [3, 4].map((seed) => activations(on, seed, channels * taps, 'f32').array);
  const position = on.upload(
    Int32Array.from({ length: rows }, (_, row) => row % 33),
    'i32',
  );
  const operands = { x: x!, weights: weights!, position, taps, isSilu: true, dy: dy! };
  shortConvolutionBackward(operands, { dx: dy!, dWeights: dWeights!, accumulate: true });
  return [dy!, dWeights!];
});

/** A token's attention to keys of two parts. */
const cached = otherValues((on) => {
  const [tokens, layout] = [700, { ...LAYOUT, sequence: 1 }];
  const width = layout.heads * layout.headDim;
  const rows = (seed: number) =>
    activations(on, seed, tokens * layout.keyValueHeads * layout.headDim, 'f32').array;
  const [q, gate, y] = [1, 2, 3].map((seed) => activations(on, seed, width, 'bf16').array);
  cachedAttention({ q: q!, gate, keys: rows(4), values: rows(5), tokens }, y!, layout);
  return [y!];
});

/** A delta rule over two documents, of which one has two chunks, and its gradients. */
const deltaRule = otherValues((on) => {
  const layout = {
    batch: 1,
    sequence: 40,
    documents: Int32Array.of(0, 36),
    heads: 1,
    keyDim: 9,
    valueDim: 33,
    decays: 1,
  };
  const widths = { q: 9, k: 9, v: 33, beta: 1, g: 1 };
  const make = (seed: number) => {
    const arrays = Object.entries(widths).map(([name, width], i) => {
      const values = randomValues(seed + i, 40 * width).map((x) => (name === 'g' ? (x - 1) / 9 : x / 4));
      return [name, on.upload(values, 'f32')];
    });
    return Object.fromEntries(arrays) as RecurrenceOperands;
  };
  const [operands, gradients] = [make(1), make(11)];
  const [y, dy] = [21, 22].map((seed) => activations(on, seed, 40 * 33, 'bf16').array);
  deltaRuleOf(operands, y!, layout);
  deltaRuleBackward({ ...operands, dy: dy! }, gradients, layout);
  return [y!, ...Object.values(gradients)];
});

const MUTANTS: readonly Mutant[] = [
  {
    what: 'no barrier before the warps are added',
    file: 'squaredNorms',
    plant: instead('__syncthreads();', ''),
    error: norms,
  },
  {
    what: 'the last block reads beyond the end',
    file: 'squaredNorms',
    plant: instead(/const int count = .*/, 'const int count = blockElements;'),
    error: norms,
  },
  {
    what: 'a lane too few in the sum',
    file: 'rmsNorm',
    plant: instead('sumOfWarp(sum)', 'sum'),
    error: norm,
  },
  {
    what: 'a wrong stride of rows',
    file: 'rmsNorm',
    plant: instead(
      'const T* from = x + static_cast<uint64>(row) * width',
      'const T* from = x + static_cast<uint64>(row) * (width - 8)',
    ),
    error: norm,
  },
  {
    what: 'parts of a gain written over each other',
    file: 'rmsNorm',
    plant: instead('parts[static_cast<uint64>(blockIdx.x) * width + column]', 'parts[column % 8]'),
    error: norm,
  },
  {
    what: 'no barrier after the copies',
    file: 'matmul',
    plant: instead('      __syncthreads();', ''),
    error: products,
  },
  {
    what: 'no wait for the copies',
    file: 'matmul',
    plant: instead('waitForCopies<STAGES - 2>();', ''),
    error: products,
  },
  {
    what: 'a wait for one copy too few',
    file: 'matmul',
    plant: instead('waitForCopies<STAGES - 2>', 'waitForCopies<STAGES - 1>'),
    error: products,
  },
  {
    what: 'the next tile over the one that is read',
    file: 'matmul',
    plant: instead('begin(step + STAGES - 1);\n      UNROLL', 'begin(step + STAGES);\n      UNROLL'),
    error: products,
  },
  {
    what: 'no zeros beyond the end of k',
    file: 'matmul',
    plant: instead('place + p < length', 'true'),
    error: products,
  },
  {
    what: 'rows of the right operand exchanged',
    file: 'matmul',
    plant: instead(
      'line + lane / 16 * 8 + lane % 8, place + lane / 8 % 2',
      'line + lane % 16, place + lane / 8 % 2',
    ),
    error: products,
  },
  {
    what: 'a matrix loaded as it lies',
    file: 'matmul',
    plant: instead('split(loadMatricesTransposed(', 'split(loadMatrices('),
    error: products,
  },
  {
    what: 'no barrier before keys are read',
    file: 'attention',
    plant: instead('      __syncthreads();', ''),
    error: attention,
  },
  {
    what: 'keys over those that are read',
    file: 'attention',
    plant: instead('beginTile(shared.k, k, tile + 1);', 'beginTile(shared.k, k, tile + 2);'),
    error: attention,
  },
  {
    what: 'the largest score of a part of a row',
    file: 'attention',
    plant: instead('distance < 4', 'distance < 2'),
    error: attention,
  },
  {
    what: 'sums of the tiles before for another largest score',
    file: 'attention',
    plant: instead('out[j].v[2 * half] *= softmax.shrink[half];', ''),
    error: attention,
  },
  {
    what: 'a key beyond the query',
    file: 'attention',
    plant: instead('key <= query &&', 'key <= query + 1 &&'),
    error: attention,
  },
  {
    what: 'no barrier before queries are read',
    file: 'attentionBackward',
    plant: instead('      __syncthreads();', ''),
    error: attention,
  },
  {
    what: 'the gradient of a weight without its mean',
    file: 'attentionBackward',
    plant: instead('weight * (gradient - ofRow)', 'weight * gradient'),
    error: attention,
  },
  {
    what: 'a logit of a gate that is written while others read it',
    file: 'attentionBackward',
    plant: instead('__syncwarp();', ''),
    error: inPlace,
  },
  {
    what: 'no barrier before the warps’ gradients of a gain are added',
    file: 'attentionHeads',
    plant: instead('  __syncthreads();', ''),
    error: heads,
  },
  {
    what: 'gate logits of the group’s first head for all',
    file: 'attentionHeads',
    plant: instead('group * shape.headDim + inGroup * shape.gates', 'group * shape.headDim'),
    error: heads,
  },
  {
    what: 'parts of a gain’s gradient that overlap',
    file: 'attentionHeads',
    plant: instead('blockIdx.x * ROWS_OF_PART + warp;', 'blockIdx.x * (ROWS_OF_PART - WARPS) + warp;'),
    error: heads,
  },
  {
    what: 'the first expert of a token for all',
    file: 'combineTokens',
    plant: instead('position[slots + k]', 'position[slots]'),
    error: combined,
  },
  {
    what: 'gradients at the places of tokens',
    file: 'combineTokens',
    plant: instead('storePack(dy + begin,', 'storePack(dy + token,'),
    error: combined,
  },
  {
    what: 'no barrier of the warp before exponentials are added up',
    file: 'routeExperts',
    plant: instead('exponential(logits[e] - most);\n  __syncwarp();', 'exponential(logits[e] - most);'),
    error: routed,
  },
  {
    what: 'of equal ones the last',
    file: 'routeExperts',
    plant: instead('place < best', 'place > best'),
    error: routed,
  },
  {
    what: 'groups by their largest key alone',
    file: 'routeExperts',
    plant: instead('first + second', 'first'),
    error: routed,
  },
  {
    what: 'no barrier of the warp before gradients are written',
    file: 'routeExperts',
    plant: instead('  __syncwarp();\n  const float push', '  const float push'),
    error: routed,
  },
  {
    what: 'no barrier before an expert’s slots are counted',
    file: 'planDispatch',
    plant: instead('__syncthreads();\n  return own;', 'return own;'),
    error: planned,
  },
  {
    what: 'no barrier after the experts’ first rows are known',
    file: 'planDispatch',
    plant: instead('experts);\n  __syncthreads();\n  for (int i', 'experts);\n  for (int i'),
    error: planned,
  },
  {
    what: 'parts of an expert side by side',
    file: 'planDispatch',
    plant: instead('first[i / parts]', 'first[i % experts]'),
    error: planned,
  },
  {
    what: 'what is left of a tile beyond its expert',
    file: 'planDispatch',
    plant: instead('tile[1] = begin + count;', 'tile[1] = begin + (i + 1) * edge;'),
    error: planned,
  },
  {
    what: 'tokens of the document before',
    file: 'shortConvolution',
    plant: instead('if (position[row] < back) continue;', 'if (row < back) continue;'),
    error: convolved,
  },
  {
    what: 'the taps of another channel',
    file: 'shortConvolution',
    plant: instead('weights[channel * taps + taps - 1 - ahead]', 'weights[channel + taps - 1 - ahead]'),
    error: convolved,
  },
  {
    what: 'no barrier before the warps’ sums are joined',
    file: 'cachedAttention',
    plant: instead('__syncthreads();\n  float most', 'float most'),
    error: cached,
  },
  {
    what: 'parts of keys as if all had the same largest score',
    file: 'cachedAttention',
    plant: instead(
      'own[part * step + 2 + c], shareOf(own[part * step], most)',
      'own[part * step + 2 + c], 1.0f',
    ),
    error: cached,
  },
  {
    what: 'no barrier before a token’s vectors are overwritten',
    file: 'deltaRule',
    plant: instead(
      '        __syncthreads();\n        loadToken(shared.token, q',
      'loadToken(shared.token, q',
    ),
    error: deltaRule,
  },
  {
    what: 'no barrier before rows of the state’s gradient are added up',
    file: 'deltaRule',
    plant: instead('__syncthreads();\n        // dw', '// dw'),
    error: deltaRule,
  },
  {
    what: 'the state before a chunk in place of that before a token',
    file: 'deltaRule',
    plant: instead('*before = t == 0 ? kept : after - stateSize', '*before = kept'),
    error: deltaRule,
  },
  {
    what: 'no barrier before wide tiles are overwritten',
    file: 'attentionWide',
    plant: instead('__syncthreads();\n        begin(step + 1);', 'begin(step + 1);'),
    error: wideAttention,
  },
  {
    what: 'the first half of wide sums twice',
    file: 'attentionWide',
    plant: instead('firstChannel = blockIdx.z * OUT, source', 'firstChannel = 0, source'),
    error: wideAttention,
  },
  {
    what: 'keys over those that are read, where there is room for one tile',
    file: 'attentionWide',
    plant: instead(
      '__syncthreads();\n        beginTile(shared.k, k, tile + 1);',
      'beginTile(shared.k, k, tile + 1);',
    ),
    error: wideAttention,
  },
  {
    what: 'the gradient of a capped score as if it were not',
    file: 'attentionCappedBackward',
    plant: instead('slope = 1.0f - share * share;', ''),
    error: cappedAttention,
  },
  {
    what: 'no barrier before panels are read',
    file: 'floatProducts',
    plant: instead('        __syncthreads();', ''),
    error: floatProducts,
  },
  {
    what: 'one panel in place of two',
    file: 'floatProducts',
    plant: instead('panel ^= 1', 'panel += 0'),
    error: floatProducts,
  },
  {
    what: 'the first block of k alone',
    file: 'floatProducts',
    plant: instead('accumulate || block > 0', 'accumulate'),
    error: floatProducts,
  },
  {
    what: 'no zeros beyond the end of a block',
    file: 'floatProducts',
    plant: instead('step >= end', 'false'),
    error: floatProducts,
  },
  {
    what: 'keys over those that are read',
    file: 'attentionFloat',
    plant: instead('shared.v, channels);\n      __syncthreads();', 'shared.v, channels);'),
    error: floatAttention,
  },
  {
    what: 'weights that are read before they are handed over',
    file: 'attentionFloat',
    plant: instead('= own[r];\n    __syncwarp();', '= own[r];'),
    error: floatAttention,
  },
  {
    what: 'weights over those that others read',
    file: 'attentionFloat',
    plant: instead('    __syncwarp();\n  }', '  }'),
    error: floatAttention,
  },
  {
    what: 'queries of the document’s next tile alone',
    file: 'attentionFloat',
    plant: instead(
      '(range.first - range.begin) / PASSING * PASSING',
      '(range.first - range.begin + PASSING)',
    ),
    error: floatAttention,
  },
  {
    what: 'a logit that is written while others read it',
    file: 'gateHeads',
    plant: instead('__syncwarp();', ''),
    error: gates,
  },
];

for (const file of new Set(MUTANTS.map((mutant) => mutant.file))) {
  test(`mistakes planted in ${file} are found, and none without`, async (t) => {
    const mutants = MUTANTS.filter((each) => each.file === file);
    t.true(mutants[0]!.error(emulator) <= 1);
    await findAll(t, mutants);
  });
}
