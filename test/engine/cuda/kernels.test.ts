/** Kernels on the emulator, against `native` and double precision. */

import { BLOCK_ELEMENTS } from '@sluice/core';
import {
  adamW,
  computeGradients,
  gatedFeedForward,
  Parameter,
  rotaryEmbedding,
  rotaryTable,
  selectBackend,
  sumTree,
} from '@sluice/engine';
import {
  addResidual,
  CountedRows,
  crossEntropyInDouble,
  type DeviceArray,
  embedding,
  embeddingBackward,
  embeddingTokens,
  expertGradients,
  expertProducts,
  flat,
  HostRows,
  linearCrossEntropy,
  rmsNorm,
  rmsNormBackward,
  rotaryEmbedding as rotaryOnDevice,
  swiGlu,
  swiGluBackward,
} from '@sluice/engine/cuda';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import { SETTINGS } from '../support/adamW.ts';
import {
  activations,
  device,
  emulator,
  floatsOf,
  fromBf16,
  PRODUCTS,
  type ProductName,
  productError,
  rmsNormErrors,
  runProduct,
  toBf16,
  worstShare,
} from '../support/cuda.ts';
import { randomValues, relativeError } from '../support/differential.ts';

const bytesOf = (array: DeviceArray) => Buffer.from(array.read().buffer);

/** Runs blocks and threads in several orders, in each of which memory is watched. @returns what came out, once for each */
function inSeveralOrders(compute: () => readonly DeviceArray[]): Buffer[] {
  const settings = [
    {},
    { order: 'backward' },
    { order: 'shuffled' },
    { order: 'shuffled', seed: 2 },
  ] as const;
  const results = settings.map((each) => {
    emulator.set(each);
    return Buffer.concat(compute().map(bytesOf));
  });
  emulator.set({});
  return results;
}

test('AdamW gives parameters and moments the bits of native, and weights the nearest bf16', (t) => {
  for (const length of [1, 77, BLOCK_ELEMENTS, BLOCK_ELEMENTS + 300]) {
    const host = {
      parameters: randomValues(1, length),
      firstMoment: new Float32Array(length),
      secondMoment: new Float32Array(length),
    };
    const arrays = {
      parameters: device.upload(host.parameters, 'f32'),
      firstMoment: device.upload(host.firstMoment, 'f32'),
      secondMoment: device.upload(host.secondMoment, 'f32'),
      weights: device.allocate(length, 'bf16'),
    };
    const sums = new Float64Array(2 * Math.ceil(length / BLOCK_ELEMENTS));
    const deviceSums = device.allocate(sums.length, 'f64');
    for (const step of [1, 2, 3]) {
      const gradients = randomValues(step + 7, length);
      adamW({ ...host, gradients }, { ...SETTINGS, step }, sums);
      flat.adamW(
        { ...arrays, gradients: device.upload(gradients, 'f32') },
        { ...SETTINGS, step },
        deviceSums,
      );
    }
    t.deepEqual(arrays.parameters.read(), host.parameters);
    t.deepEqual(arrays.firstMoment.read(), host.firstMoment);
    t.deepEqual(arrays.secondMoment.read(), host.secondMoment);
    t.deepEqual(arrays.weights.read(), toBf16(host.parameters));
    t.true(worstShare(floatsOf(deviceSums), sums, (i) => 1e-5 * sums[i]!) < 1);
  }
});

test('AdamW on a range of a buffer leaves the rest alone, and gives it the bits of the whole', (t) => {
  const length = 2 * BLOCK_ELEMENTS + 9;
  const update = (cuts: number[]) => {
    const arrays = ([3, 4, 5, 6] as const).map((seed) =>
      device.upload(randomValues(seed, length).map(Math.abs), 'f32'),
    );
    for (const [i, begin] of cuts.entries()) {
      const [parameters, gradients, firstMoment, secondMoment] = arrays.map((array) =>
        array.subarray(begin, cuts[i + 1]),
      ) as [(typeof arrays)[0], (typeof arrays)[0], (typeof arrays)[0], (typeof arrays)[0]];
      const sums = device.allocate(2 * Math.ceil(parameters!.length / BLOCK_ELEMENTS), 'f64');
      flat.adamW(
        {
          parameters: parameters!,
          gradients: gradients!,
          firstMoment: firstMoment!,
          secondMoment: secondMoment!,
        },
        SETTINGS,
        sums,
      );
    }
    return Buffer.concat(arrays.map(bytesOf));
  };
  t.true(update([0]).equals(update([0, 5, BLOCK_ELEMENTS + 1])));
});

test('values become the nearest bf16, of two the even one, and NaN and infinities stay', (t) => {
  // Around ties of both kinds, the largest values, subnormal ones, and at random.
  const near = [0x3f80, 0x3f81, 0x7f7f, 0x0001, 0x8000, 0xff7f].flatMap((high) =>
    [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map((low) => ((high << 16) | low) >>> 0),
  );
  const special = [0x7f800000, 0xff800000, 0x7f800001, 0x7fc00000, 0xffffffff];
  const random = Array.from(randomValues(1, 2000), (value) => Math.floor((value + 1) * 2 ** 31));
  const values = new Float32Array(Uint32Array.from([...near, ...special, ...random]).buffer);
  const narrowed = device.allocate(values.length, 'bf16');
  flat.narrow(narrowed, device.upload(values, 'f32'));
  t.deepEqual(narrowed.read(), toBf16(values));
  const widened = device.allocate(values.length, 'f32');
  flat.widen(widened, narrowed);
  t.deepEqual(widened.read(), fromBf16(narrowed.read()));
});

test('a sum of any number of sources has the order, and so the bits, of a host’s', (t) => {
  const length = 300;
  const sources = Array.from({ length: 32 }, (_, i) => randomValues(i, length));
  const onDevice = sources.map((values) => device.upload(values, 'f32'));
  for (let count = 1; count <= 32; count++) {
    const [expected, target] = [new Float32Array(length), device.allocate(length, 'f32')];
    sumTree(expected, sources.slice(0, count));
    flat.sumTree(target, onDevice.slice(0, count));
    t.deepEqual(target.read(), expected);
  }
  // Into one of them.
  const expected = sources[2]!.slice();
  sumTree(expected, [sources[0]!, sources[1]!, expected]);
  flat.sumTree(onDevice[2]!, onDevice.slice(0, 3));
  t.deepEqual(onDevice[2]!.read(), expected);
});

test('flat memory is filled, copied, scaled and added to, each element with one rounding', (t) => {
  const length = 1500;
  const [x, y] = [randomValues(1, length), randomValues(2, length)];
  const [onX, onY] = [device.upload(x, 'f32'), device.upload(y, 'f32')];
  flat.addScaled(onY.subarray(3), onX.subarray(3), 0.1);
  // A product of two floats is exact in double precision, and a sum with a third is rounded twice at worst.
  const expected = y.map((value, i) => (i < 3 ? value : Math.fround(0.1) * x[i]! + value));
  t.true(worstShare(onY.read(), expected, (i) => 2 ** -23 * Math.abs(expected[i]!)) <= 1);
  flat.scale(onX.subarray(0, 700), 3);
  t.deepEqual(
    onX.read(),
    x.map((value, i) => (i < 700 ? 3 * value : value)),
  );
  flat.copy(onX.subarray(700, 800), onY.subarray(0, 100));
  t.deepEqual(onX.subarray(700, 800).read(), onY.subarray(0, 100).read());
  flat.fill(onX.subarray(10, 20), -0.5);
  t.deepEqual(
    [...onX.subarray(9, 21).read()].map((value) => value === -0.5),
    [false, ...Array(10).fill(true), false],
  );
});

test('norms of blocks are those of double precision, wherever a buffer is cut between blocks', (t) => {
  const values = randomValues(5, 2 * BLOCK_ELEMENTS + 1111, 1e3);
  const array = device.upload(values, 'f32');
  const norms = device.allocate(3, 'f64');
  flat.squaredNorms(norms, array);
  for (const [block, norm] of norms.read().entries()) {
    const squares = values.subarray(block * BLOCK_ELEMENTS, (block + 1) * BLOCK_ELEMENTS);
    const exact = Array.from(squares).reduce((sum, value) => sum + value ** 2, 0);
    t.true(Math.abs(norm / exact - 1) < 1e-13);
  }
  const last = device.allocate(1, 'f64');
  flat.squaredNorms(last, array.subarray(2 * BLOCK_ELEMENTS));
  t.is(last.read()[0], norms.read()[2]);
});

test('the RMS norm and its gradients keep to the bounds of their arithmetic', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 70 }),
      fc.integer({ min: 1, max: 40 }),
      fc.constantFrom(1, 8),
      fc.constantFrom('bf16' as const, 'f32' as const),
      fc.nat(),
      (rows, width, multiple, storage, seed) => {
        const { y, dx, dGain } = rmsNormErrors(device, { rows, width: width * multiple, storage, seed });
        return y < 1 && dx < 1 && dGain < 1;
      },
    ),
    { numRuns: 12 },
  );
  // More than a pack for each lane.
  const { y, dx, dGain } = rmsNormErrors(device, { rows: 3, width: 520, storage: 'bf16', seed: 9 });
  t.true(y < 1 && dx < 1 && dGain < 1);
});

test('a row of the RMS norm has the same bits alone and among others, and dx may be dy', (t) => {
  const [rows, width] = [9, 72];
  const x = activations(device, 1, rows * width, 'bf16').array;
  const dy = activations(device, 2, rows * width, 'bf16').array;
  const gain = activations(device, 3, width, 'f32').array;
  const run = (begin: number, end: number) => {
    const range = (array: DeviceArray<'bf16'>) => array.subarray(begin * width, end * width);
    const [y, dx] = [device.allocate((end - begin) * width, 'bf16'), device.upload(range(dy).read(), 'bf16')];
    const inverse = device.allocate(end - begin, 'f32');
    rmsNorm(range(x), gain, y, inverse, 1e-6);
    const dGain = device.allocate(width, 'f32');
    rmsNormBackward({ x: range(x), gain, dy: dx, inverse }, { dx, dGain, accumulate: false });
    return [y, dx].map((array) => array.read().subarray(-width));
  };
  t.deepEqual(run(0, rows), run(rows - 1, rows));
});

test('rotary embedding in floats has the bits of native, in bf16 those rounded, and turns back', async (t) => {
  await selectBackend('native');
  const layout = { batch: 1, sequence: 7, heads: 3, headDim: 10 };
  const table = rotaryTable(layout.sequence, layout.headDim, 1e4);
  const length = layout.sequence * layout.heads * layout.headDim;
  const position = device.upload(
    Int32Array.from({ length: layout.sequence }, (_, i) => i),
    'i32',
  );
  const [cosine, sine] = [device.upload(table.cos, 'f32'), device.upload(table.sin, 'f32')];
  const rest = { cosine, sine, position, headDim: layout.headDim };
  const expected = (x: Float32Array) =>
    tf.tidy(
      () =>
        rotaryEmbedding(
          tf.tensor2d(x, [layout.sequence, length / layout.sequence]),
          table,
          layout,
        ).dataSync() as Float32Array,
    );
  const [floats, halves] = [activations(device, 1, length, 'f32'), activations(device, 1, length, 'bf16')];
  const [y, narrow] = [device.allocate(length, 'f32'), device.allocate(length, 'bf16')];
  rotaryOnDevice({ x: floats.array, ...rest }, y);
  t.deepEqual(y.read(), expected(floats.values));
  rotaryOnDevice({ x: halves.array, ...rest }, narrow);
  t.deepEqual(narrow.read(), toBf16(expected(halves.values)));
  // In place.
  rotaryOnDevice({ x: y, ...rest, back: true }, y);
  t.true(worstShare(y.read(), floats.values, () => 1e-6) < 1);
});

/** Runs `forward` on `native`, with dy as the gradient of its result. @returns the result and the gradient of x */
async function onNative(
  x: { values: Float32Array; shape: [number, number] },
  dy: Float32Array,
  forward: (x: tf.Tensor2D) => tf.Tensor,
): Promise<{ y: Float32Array; dx: Float32Array }> {
  await selectBackend('native');
  const parameter = new Parameter('x', x.shape, x.values);
  const dx = new Float32Array(x.values.length);
  parameter.sink = () => ({ values: dx, accumulate: false });
  let y = new Float32Array();
  computeGradients(() => {
    const result = forward(parameter.onTape() as tf.Tensor2D);
    y = result.dataSync() as Float32Array<ArrayBuffer>;
    return tf.sum(tf.mul(result, tf.tensor(dy, result.shape)));
  });
  return { y, dx };
}

test('SwiGLU and its gradient in floats have the bits of native, with a limit and without, and in bf16 those rounded', async (t) => {
  const [rows, units] = [5, 13];
  for (const limit of [0, 0.3]) {
    for (const storage of ['f32', 'bf16'] as const) {
      const x = activations(device, 1, rows * 2 * units, storage);
      const dHidden = activations(device, 2, rows * units, storage);
      // Products with ones and zeros are exact, so that what is left of a feed-forward are its hidden units.
      const identity = new Parameter(
        'gateUp',
        [2 * units, 2 * units],
        Float32Array.from(tf.eye(2 * units).dataSync()),
      );
      const half = new Parameter(
        'down',
        [2 * units, units],
        Float32Array.from(tf.eye(2 * units, units).dataSync()),
      );
      const wide = (values: Float32Array) =>
        Float32Array.from({ length: rows * 2 * units }, (_, i) =>
          i % (2 * units) < units ? values[Math.floor(i / (2 * units)) * units + (i % (2 * units))]! : 0,
        );
      const native = await onNative(
        { values: x.values, shape: [rows, 2 * units] },
        wide(dHidden.values),
        (input) => gatedFeedForward(input, identity, half, limit === 0 ? undefined : limit),
      );
      const expected = Float32Array.from(
        { length: rows * units },
        (_, i) => native.y[Math.floor(i / units) * 2 * units + (i % units)]!,
      );
      const rounded = (values: Float32Array) => (storage === 'bf16' ? fromBf16(toBf16(values)) : values);
      const hidden = device.allocate(rows * units, storage);
      swiGlu(x.array, hidden, units, limit);
      t.deepEqual(floatsOf(hidden), rounded(expected));
      // Each output in the place of an input.
      swiGluBackward(
        { preactivations: x.array, dHidden: dHidden.array },
        { dPreactivations: x.array, hidden: dHidden.array },
        units,
        limit,
      );
      t.deepEqual(floatsOf(x.array), rounded(native.dx));
      t.deepEqual(floatsOf(dHidden.array), rounded(expected));
    }
  }
});

test('the residual sum and rows of an embedding have the bits of native, and so has the table’s gradient', (t) => {
  const [vocabulary, tokens] = [11, 40];
  const ids = Int32Array.from({ length: tokens }, (_, n) => (n * n + 3) % vocabulary);
  const plan = embeddingTokens(device, ids, vocabulary);
  for (const [width, storage] of [
    [24, 'bf16'],
    [7, 'f32'],
    [300, 'f32'],
  ] as const) {
    const table = activations(device, 1, vocabulary * width, storage);
    const dy = activations(device, 2, tokens * width, storage);
    const before = activations(device, 3, vocabulary * width, 'f32');
    const y = device.allocate(tokens * width, storage);
    embedding(plan, table.array, y, width);
    const rows = Float32Array.from(
      { length: tokens * width },
      (_, i) => table.values[ids[Math.floor(i / width)]! * width + (i % width)]!,
    );
    t.deepEqual(floatsOf(y), rows);
    embeddingBackward(plan, dy.array, before.array, width);
    const gradient = before.values.slice();
    // `native` adds row by row, too.
    for (let i = 0; i < dy.values.length; i++)
      gradient[ids[Math.floor(i / width)]! * width + (i % width)]! += dy.values[i]!;
    t.deepEqual(before.array.read(), gradient);
    const sum = rows.map((value, i) => value + dy.values[i]!);
    addResidual(y, dy.array, y);
    t.deepEqual(floatsOf(y), storage === 'bf16' ? fromBf16(toBf16(sum)) : sum);
  }
  t.throws(() => embeddingTokens(device, Int32Array.of(3, 11), vocabulary), {
    message: /token 11 at position 1/,
  });
});

const PRODUCT_NAMES = Object.keys(PRODUCTS) as ProductName[];

test('products of every layout keep to the bounds of a tensor core’s arithmetic, on each kind of it', (t) => {
  const shapes = [
    { M: 64, N: 64, K: 64 },
    { M: 8, N: 72, K: 200 },
    { M: 104, N: 16, K: 8 },
  ];
  for (const arithmetic of ['exact', 'ampere', 'hopper'] as const) {
    emulator.set({ arithmetic });
    for (const name of PRODUCT_NAMES) {
      for (const [seed, shape] of shapes.entries()) t.true(productError(device, name, shape, seed) < 1);
    }
  }
  emulator.set({});
  // Only the axes along which operands lie need be multiples of 8.
  t.true(productError(device, 'matmul', { M: 5, N: 3, K: 24 }, 5) < 1);
  t.true(productError(device, 'matmulTransposed', { M: 8, N: 16, K: 37 }, 6) < 1);
  t.throws(() => productError(device, 'matmul', { M: 8, N: 8, K: 12 }, 1), {
    message: /K = 12 .* multiple of 8/,
  });
});

test('a large tile gives the bits of a small one, and loads without bank conflicts', (t) => {
  const shape = { M: 136, N: 72, K: 144 };
  for (const name of PRODUCT_NAMES) {
    const [a, b] = [
      activations(device, 1, shape.M * shape.K, 'bf16'),
      activations(device, 2, shape.N * shape.K, 'bf16'),
    ];
    emulator.statistics();
    const [small, large] = (['Small', 'Large'] as const).map((tile) =>
      bytesOf(runProduct(name, [a.array, b.array], shape, tile)),
    );
    t.true(small!.equals(large!));
    const { products, bankConflicts } = emulator.statistics();
    t.true(products > 0);
    t.is(bankConflicts, 0);
  }
});

test('a row of a product has the same bits alone and among others', (t) => {
  const [N, K] = [40, 72];
  const [a, b] = [activations(device, 1, 70 * K, 'bf16').array, activations(device, 2, N * K, 'bf16').array];
  const whole = runProduct('matmul', [a, b], { M: 70, N, K });
  const alone = runProduct('matmul', [a.subarray(66 * K, 67 * K), b], { M: 1, N, K });
  t.deepEqual(alone.read(), whole.subarray(66 * N, 67 * N).read());
});

test('products of experts have the bits that each segment has alone, with either tile, counted by host or device, and those without rows zeros', (t) => {
  const [N, K] = [72, 40];
  const counts = [3, 0, 130, 66];
  let begin = 0;
  const segments = counts.map((count, expert) => {
    begin += count;
    return { expert, source: 0, begin: begin - count, count };
  });
  const bf16 = (seed: number, length: number) => activations(device, seed, length, 'bf16').array;
  const [x, weights, dy] = [bf16(1, begin * K), bf16(2, counts.length * N * K), bf16(3, begin * N)];
  const host = new HostRows(device, segments);
  const counted = new CountedRows(device.upload(Int32Array.from(counts), 'i32'), begin);
  const variants = [
    ['Small', host],
    ['Large', host],
    ['Small', counted],
    ['Large', counted],
  ] as const;
  const results = variants.map(([tile, experts]) => {
    const [y, dx] = [device.allocate(begin * N, 'bf16'), device.allocate(begin * K, 'bf16')];
    const dWeights = device.allocate(weights.length, 'f32');
    expertProducts([x, weights, y], experts, { N, K }, { tile });
    expertProducts([dy, weights, dx], experts, { N: K, K: N }, { isPlain: true, tile });
    const all = experts.segmentsOf(0, counts.length, 'all');
    expertGradients([dy, x], dWeights, all, { M: N, N: K }, { accumulate: false, tile });
    return { y, dx, dWeights };
  });
  for (const { y, dx, dWeights } of results) {
    for (const { expert, begin, count } of segments) {
      const rows = <S extends 'bf16'>(array: DeviceArray<S>, width: number) =>
        array.subarray(begin * width, (begin + count) * width);
      const ofExpert = <S extends 'bf16' | 'f32'>(array: DeviceArray<S>) =>
        array.subarray(expert * N * K, (expert + 1) * N * K);
      const alone = runProduct('matmulTransposed', [rows(dy, N), rows(x, K)], { M: N, N: K, K: count });
      t.deepEqual(ofExpert(dWeights).read(), alone.read());
      if (count === 0) continue;
      const [own, ofMatrix] = [{ M: count, N, K }, ofExpert(weights)];
      t.deepEqual(rows(y, N).read(), runProduct('matmul', [rows(x, K), ofMatrix], own).read());
      const back = runProduct('matmulPlain', [rows(dy, N), ofMatrix], { M: count, N: K, K: N });
      t.deepEqual(rows(dx, K).read(), back.read());
    }
  }
});

test('losses and gradients of a linear layer’s cross-entropy agree with double precision, capped and not', (t) => {
  const [tokens, channels, vocabulary, scale] = [9, 24, 304, 0.25];
  const x = activations(device, 1, tokens * channels, 'bf16');
  const weight = activations(device, 2, vocabulary * channels, 'bf16');
  const targets = Int32Array.of(0, 303, -1, 7, 150, 299, 255, 256, 31);
  for (const cap of [0, 2]) {
    const losses = device.allocate(tokens, 'f32');
    const [dx, dWeight] = [
      device.allocate(tokens * channels, 'bf16'),
      device.allocate(vocabulary * channels, 'f32'),
    ];
    flat.fill(dWeight, 0);
    const call = { x: x.array, weight: weight.array, targets, losses, vocabulary, scale, cap };
    linearCrossEntropy({ ...call, gradients: { dx, dWeight } });
    const expected = crossEntropyInDouble(x.values, weight.values, targets, { channels, scale, cap });
    t.true(worstShare(losses.read(), expected.losses, () => 4e-6) < 1);
    // The gradient of the logits is rounded to bf16, in which sums over the vocabulary, and over tokens, differ by chance.
    t.true(relativeError(floatsOf(dx), expected.dx) < 2 ** -8);
    t.true(relativeError(dWeight.read(), expected.dWeight) < 2 ** -8);
    const alone = device.allocate(tokens, 'f32');
    linearCrossEntropy({ ...call, losses: alone });
    t.deepEqual(alone.read(), losses.read());
  }
  const call = {
    x: x.array,
    weight: weight.array,
    losses: device.allocate(tokens, 'f32'),
    vocabulary,
    scale,
  };
  t.throws(() => linearCrossEntropy({ ...call, targets: targets.map(() => 304) }), {
    message: /target 304 of token 0/,
  });
});

test('no order of blocks and threads changes a bit', (t) => {
  const [x, y] = [activations(device, 1, 3000, 'f32').array, activations(device, 2, 3000, 'f32').array];
  const [a, b] = [
    activations(device, 3, 72 * 80, 'bf16').array,
    activations(device, 4, 80 * 80, 'bf16').array,
  ];
  const results = inSeveralOrders(() => {
    const [norms, sums] = [device.allocate(3, 'f64'), device.allocate(2, 'f64')];
    flat.squaredNorms(norms, x, 1024);
    const arrays = [x, y, y, y].map((array) => device.upload(array.read().map(Math.abs), 'f32')) as [
      DeviceArray<'f32'>,
      DeviceArray<'f32'>,
      DeviceArray<'f32'>,
      DeviceArray<'f32'>,
    ];
    const [parameters, gradients, firstMoment, secondMoment] = arrays;
    flat.adamW({ parameters, gradients, firstMoment, secondMoment }, SETTINGS, sums);
    const [normed, dx] = [device.allocate(72 * 80, 'bf16'), device.allocate(72 * 80, 'bf16')];
    const [inverse, dGain] = [device.allocate(72, 'f32'), device.allocate(80, 'f32')];
    rmsNorm(a, x.subarray(0, 80), normed, inverse, 1e-6);
    rmsNormBackward({ x: a, gain: x.subarray(0, 80), dy: normed, inverse }, { dx, dGain, accumulate: false });
    const losses = device.allocate(72, 'f32');
    const targets = Int32Array.from({ length: 72 }, (_, n) => n);
    linearCrossEntropy({ x: a, weight: b, targets, losses, vocabulary: 80, scale: 1 });
    const products = PRODUCT_NAMES.map((name) => runProduct(name, [a, b], { M: 72, N: 80, K: 80 }));
    return [norms, sums, parameters, normed, inverse, dx, dGain, losses, ...products];
  });
  for (const result of results) t.true(result.equals(results[0]!));
});

test('what is no number comes out, and does not vanish', (t) => {
  const width = 40;
  const values = randomValues(1, width);
  values[17] = Number.NaN;
  const x = device.upload(toBf16(values), 'bf16');
  const [y, inverse] = [device.allocate(width, 'bf16'), device.allocate(1, 'f32')];
  rmsNorm(x, device.upload(new Float32Array(width).fill(1), 'f32'), y, inverse, 1e-6);
  t.true(floatsOf(y).every(Number.isNaN));
  const weights = activations(device, 2, 8 * width, 'bf16').array;
  t.true(floatsOf(runProduct('matmul', [x, weights], { M: 1, N: 8, K: width })).every(Number.isNaN));
  const infinite = device.upload(
    toBf16(values.map((_, i) => (i === 3 ? Number.POSITIVE_INFINITY : 1))),
    'bf16',
  );
  const ones = device.upload(toBf16(new Float32Array(width).fill(1)), 'bf16');
  t.is(
    floatsOf(runProduct('matmul', [infinite, ones], { M: 1, N: 1, K: width }))[0],
    Number.POSITIVE_INFINITY,
  );
});
