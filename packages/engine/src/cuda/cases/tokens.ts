/** What is done for each token: embedding, residual sum, rotary embedding, SwiGLU, cross-entropy. N: tokens; C: channels. */

import { rotaryTable } from '../../ops/rotaryEmbedding.ts';
import { linearCrossEntropy } from '../crossEntropy.ts';
import { bytesOf, type DeviceArray } from '../device.ts';
import {
  addResidual,
  embedding,
  embeddingBackward,
  embeddingTokens,
  rotaryEmbedding,
  swiGlu,
  swiGluBackward,
} from '../operations.ts';
import {
  type ActivationStorage,
  type DeviceMemory,
  floatsOf,
  judged,
  type KernelCase,
  outputsOf,
  randomArray,
  roundedTo,
  roundingOf,
  scattered,
  sigmoid,
} from './case.ts';

export function residualCase(on: DeviceMemory, length: number, storage: ActivationStorage): KernelCase {
  const [x, y, z] = [
    randomArray(on, 1, length, storage),
    randomArray(on, 2, length, storage),
    on.allocate(length, storage),
  ];
  return {
    run: () => addResidual(x, y, z),
    outputs: () => outputsOf({ z }),
    bytes: 3 * bytesOf(storage) * length,
    judge: () => {
      const [xs, ys] = [floatsOf(x), floatsOf(y)];
      const expected = Float64Array.from(xs, (value, i) => value + ys[i]!);
      const rounded = roundedTo(storage);
      return judged({ z: { array: z, expected, bound: (i) => rounded(expected[i]!) } });
    },
  };
}

export interface EmbeddingSizes {
  readonly tokens: number;
  readonly vocabulary: number;
  readonly width: number;
  readonly storage: ActivationStorage;
}

/** Rows of a table, or what is added to the gradient of a table of random numbers. */
export function embeddingCase(
  on: DeviceMemory,
  { tokens, vocabulary, width, storage }: EmbeddingSizes,
  isBackward: boolean,
): KernelCase {
  const ids = scattered(tokens, vocabulary);
  const y = randomArray(on, 1, tokens * width, storage);
  const table = randomArray(on, 2, vocabulary * width, isBackward ? 'f32' : storage);
  // `embeddingTokens` takes its arrays from the device itself.
  const plan = embeddingTokens(on, ids, vocabulary);
  const ofActivations = bytesOf(storage) * tokens * width;
  return {
    run() {
      if (isBackward) embeddingBackward(plan, y, table as DeviceArray<'f32'>, width);
      else embedding(plan, table, y, width);
    },
    outputs: () => outputsOf(isBackward ? { table } : { y }),
    // The rows of the table that occur are read and written.
    bytes: isBackward ? ofActivations + 8 * plan.rows.length * width : 2 * ofActivations,
    judge: () => {
      const rows = floatsOf(table);
      if (!isBackward) {
        const expected = Float32Array.from(
          { length: tokens * width },
          (_, i) => rows[ids[Math.floor(i / width)]! * width + (i % width)]!,
        );
        return judged({ y: { array: y, expected, bound: () => 1e-30 } });
      }
      const [expected, sizes] = [Float64Array.from(rows), Float64Array.from(rows, Math.abs)];
      for (const [i, value] of floatsOf(y).entries()) {
        const at = ids[Math.floor(i / width)]! * width + (i % width);
        expected[at]! += value;
        sizes[at]! += Math.abs(value);
      }
      return judged({ table: { array: table, expected, bound: (i) => tokens * 2 ** -24 * sizes[i]! } });
    },
  };
}

export interface RotarySizes {
  readonly tokens: number;
  readonly heads: number;
  readonly headDim: number;
  readonly storage: ActivationStorage;
}

export function rotaryCase(on: DeviceMemory, { tokens, heads, headDim, storage }: RotarySizes): KernelCase {
  const { cos, sin } = rotaryTable(tokens, headDim, 10_000);
  const x = randomArray(on, 1, tokens * heads * headDim, storage);
  const y = on.allocate(x.length, storage);
  const [cosine, sine] = [on.upload(cos, 'f32'), on.upload(sin, 'f32')];
  const position = on.upload(
    Int32Array.from({ length: tokens }, (_, token) => token),
    'i32',
  );
  return {
    run: () => rotaryEmbedding({ x, cosine, sine, position, headDim }, y),
    outputs: () => outputsOf({ y }),
    bytes: 2 * bytesOf(storage) * x.length,
    judge: () => {
      const [xs, half] = [floatsOf(x), headDim / 2];
      const [expected, sizes] = [new Float64Array(x.length), new Float64Array(x.length)];
      for (let pair = 0; pair < x.length / 2; pair++) {
        const [head, channel] = [Math.floor(pair / half), pair % half];
        const at = Math.floor(head / heads) * half + channel;
        const [first, second] = [head * headDim + channel, head * headDim + channel + half];
        expected[first] = xs[first]! * cos[at]! - xs[second]! * sin[at]!;
        expected[second] = xs[second]! * cos[at]! + xs[first]! * sin[at]!;
        sizes.fill(Math.abs(xs[first]!) + Math.abs(xs[second]!), first, first + 1);
        sizes[second] = sizes[first]!;
      }
      const rounding = roundingOf(storage);
      const bound = (i: number) => 1.01 * rounding * Math.abs(expected[i]!) + 2 ** -23 * sizes[i]! + 1e-30;
      return judged({ y: { array: y, expected, bound } });
    },
  };
}

export interface SwiGluSizes {
  readonly rows: number;
  readonly units: number;
  readonly storage: ActivationStorage;
}

export function swiGluCase(
  on: DeviceMemory,
  { rows, units, storage }: SwiGluSizes,
  isBackward: boolean,
): KernelCase {
  const length = rows * units;
  const preactivations = randomArray(on, 1, 2 * length, storage, 4);
  const dHidden = randomArray(on, 2, length, storage);
  const hidden = on.allocate(length, storage);
  const dPreactivations = on.allocate(2 * length, storage);
  return {
    run() {
      if (isBackward) swiGluBackward({ preactivations, dHidden }, { dPreactivations, hidden }, units);
      else swiGlu(preactivations, hidden, units);
    },
    outputs: () => outputsOf(isBackward ? { dPreactivations, hidden } : { hidden }),
    bytes: (isBackward ? 6 : 3) * bytesOf(storage) * length,
    judge: () => {
      const [values, slopes] = [floatsOf(preactivations), floatsOf(dHidden)];
      const [outs, gradients] = [new Float64Array(length), new Float64Array(2 * length)];
      const sizes = new Float64Array(2 * length);
      for (let i = 0; i < length; i++) {
        const at = Math.floor(i / units) * 2 * units + (i % units);
        const [gate, up, slope] = [values[at]!, values[at + units]!, slopes[i]!];
        const open = sigmoid(gate);
        outs[i] = gate * open * up;
        gradients[at] = slope * up * open * (1 + gate * (1 - open));
        gradients[at + units] = slope * gate * open;
        sizes[at] = Math.abs(slope * up * open) * (1 + Math.abs(gate));
        sizes[at + units] = Math.abs(gradients[at + units]!);
      }
      const result = roundingOf(storage);
      const of = (value: number, size: number) => 1.01 * result * Math.abs(value) + 2e-6 * size + 1e-30;
      const judgements = {
        hidden: { array: hidden, expected: outs, bound: (i: number) => of(outs[i]!, Math.abs(outs[i]!)) },
      };
      return judged(
        isBackward
          ? {
              ...judgements,
              dPreactivations: {
                array: dPreactivations,
                expected: gradients,
                bound: (i) => of(gradients[i]!, sizes[i]!),
              },
            }
          : judgements,
      );
    },
  };
}

export interface CrossEntropySizes {
  readonly tokens: number;
  readonly channels: number;
  readonly vocabulary: number;
  readonly cap?: number;
  readonly storage?: ActivationStorage;
}

/** Losses of a linear layer's cross-entropy, with gradients. The first target is left out. */
export function crossEntropyCase(
  on: DeviceMemory,
  { tokens, channels, vocabulary, cap = 0, storage = 'bf16' }: CrossEntropySizes,
): KernelCase {
  const scale = 1 / tokens;
  const x = randomArray(on, 1, tokens * channels, storage);
  const weight = randomArray(on, 2, vocabulary * channels, storage, 0.5);
  const targets = scattered(tokens, vocabulary);
  targets[0] = -1;
  const losses = on.allocate(tokens, 'f32');
  const [dx, dWeight] = [on.allocate(x.length, storage), randomArray(on, 3, weight.length, 'f32', 1e-3)];
  const call = { x, weight, targets, losses, vocabulary, scale, cap, gradients: { dx, dWeight } };
  return {
    run: () => linearCrossEntropy(call),
    outputs: () => outputsOf({ losses, dx, dWeight }),
    flops: 6 * tokens * channels * vocabulary,
    judge: () => {
      const exact = crossEntropyInDouble(floatsOf(x), floatsOf(weight), targets, { channels, scale, cap });
      const sums = Float64Array.from(floatsOf(dWeight), (value, i) => value + exact.dWeight[i]!);
      // The gradient of the logits is rounded to the storage, and so is dx; what else is rounded is much smaller than with bf16.
      const bound = (values: Float64Array, sizes: Float64Array) => (i: number) =>
        roundingOf(storage) * (Math.abs(values[i]!) + sizes[i]!) + 1e-5 * sizes[i]! + 1e-12;
      return judged({
        losses: { array: losses, expected: exact.losses, bound: () => 4e-6 },
        dx: { array: dx, expected: exact.dx, bound: bound(exact.dx, exact.dxSizes) },
        dWeight: {
          array: dWeight,
          expected: sums,
          bound: (i) => bound(exact.dWeight, exact.dWeightSizes)(i) + 2 ** -23 * Math.abs(sums[i]!),
        },
      });
    },
  };
}

/** Losses, gradients, and sums of the sizes of what these are made of. */
export function crossEntropyInDouble(
  x: Float32Array,
  weight: Float32Array,
  targets: Int32Array,
  { channels, scale, cap }: { channels: number; scale: number; cap: number },
) {
  const vocabulary = weight.length / channels;
  const [dx, dxSizes] = [new Float64Array(x.length), new Float64Array(x.length)];
  const [dWeight, dWeightSizes] = [new Float64Array(weight.length), new Float64Array(weight.length)];
  const logits = new Float64Array(vocabulary);
  const losses = Float64Array.from(targets, (target, n) => {
    if (target < 0) return 0;
    for (let v = 0; v < vocabulary; v++) {
      let sum = 0;
      for (let c = 0; c < channels; c++) sum += x[n * channels + c]! * weight[v * channels + c]!;
      logits[v] = cap > 0 ? cap * Math.tanh(sum / cap) : sum;
    }
    const total = logits.reduce((sum, z) => sum + Math.exp(z), 0);
    for (let v = 0; v < vocabulary; v++) {
      const slope = cap > 0 ? 1 - (logits[v]! / cap) ** 2 : 1;
      const gradient = scale * slope * (Math.exp(logits[v]!) / total - Number(v === target));
      for (let c = 0; c < channels; c++) {
        const [at, of] = [n * channels + c, v * channels + c];
        dx[at]! += gradient * weight[of]!;
        dxSizes[at]! += Math.abs(gradient * weight[of]!);
        dWeight[of]! += gradient * x[at]!;
        dWeightSizes[of]! += Math.abs(gradient * x[at]!);
      }
    }
    return Math.log(total) - logits[target]!;
  });
  return { losses, dx, dxSizes, dWeight, dWeightSizes };
}
