/** From the projection of an attention block to its heads and back, and gates of heads. Shapes as in `attentionHeads`. */

import { type AttentionLayout, gateWidth, projectionWidth } from '../../ops/attentionLayout.ts';
import type { HeadGate } from '../../ops/gateHeads.ts';
import { rotaryTable } from '../../ops/rotaryEmbedding.ts';
import { attentionHeads, attentionHeadsBackward } from '../attentionHeads.ts';
import { bytesOf, type DeviceArray } from '../device.ts';
import { gateHeads, gateHeadsBackward } from '../gateHeads.ts';
import {
  type ActivationStorage,
  type DeviceMemory,
  floatsOf,
  judged,
  type KernelCase,
  outputsOf,
  randomArray,
  roundingOf,
  sigmoid,
} from './case.ts';

/** One head of queries, keys or values: where its channels lie in a row of the projection, and in what it becomes. */
interface Place {
  readonly kind: 'q' | 'k' | 'v';
  readonly column: number;
  readonly index: number;
}

function placesOf({ heads, keyValueHeads, headDim, ...rest }: AttentionLayout): Place[] {
  const group = heads / keyValueHeads;
  const groupWidth = group * headDim + gateWidth({ heads, keyValueHeads, headDim, ...rest }) / keyValueHeads;
  const beyond = keyValueHeads * groupWidth;
  return [
    ...Array.from({ length: heads }, (_, index): Place => {
      const column = Math.floor(index / group) * groupWidth + (index % group) * headDim;
      return { kind: 'q', column, index };
    }),
    ...(['k', 'v'] as const).flatMap((kind, i) =>
      Array.from({ length: keyValueHeads }, (_, index): Place => {
        return { kind, column: beyond + (i * keyValueHeads + index) * headDim, index };
      }),
    ),
  ];
}

/** Gate logits of a row: where they lie in the projection, in order of the heads. */
function gateColumns(layout: AttentionLayout): number[] {
  const { heads, keyValueHeads, headDim } = layout;
  const [group, gates] = [heads / keyValueHeads, gateWidth(layout) / heads];
  return Array.from({ length: heads * gates }, (_, i) => {
    const head = Math.floor(i / gates);
    const begin = Math.floor(head / group) * group * (headDim + gates);
    return begin + group * headDim + (head % group) * gates + (i % gates);
  });
}

const EPSILON = 1e-6;

/** With norms of queries and keys. @param isBackward whether the gradients are formed; those of gains are written */
export function attentionHeadsCase(
  on: DeviceMemory,
  layout: AttentionLayout,
  isBackward: boolean,
  storage: ActivationStorage = 'bf16',
): KernelCase {
  const { sequence, heads, keyValueHeads, headDim } = layout;
  const tokens = layout.batch * sequence;
  const width = projectionWidth(layout);
  const table = rotaryTable(sequence, headDim, 10_000);
  const projection = randomArray(on, 1, tokens * width, storage);
  const [qGain, kGain] = [randomArray(on, 2, headDim, 'f32'), randomArray(on, 3, headDim, 'f32')];
  const operands = {
    ...{ projection, qGain, kGain },
    cosine: on.upload(table.cos, 'f32'),
    sine: on.upload(table.sin, 'f32'),
    position: on.upload(
      Int32Array.from({ length: tokens }, (_, token) => token % sequence),
      'i32',
    ),
  };
  const rows = (seed: number, count: number) => randomArray(on, seed, tokens * count, storage);
  const gates = gateWidth(layout);
  const parts = {
    q: rows(4, heads * headDim),
    k: rows(5, keyValueHeads * headDim),
    v: rows(6, keyValueHeads * headDim),
    gate: gates > 0 ? rows(7, gates) : null,
  };
  const dProjection = on.allocate(tokens * width, storage);
  const [dqGain, dkGain] = [on.allocate(headDim, 'f32'), on.allocate(headDim, 'f32')];
  const written = (values: DeviceArray<'f32'>) => ({ values, accumulate: false });
  const results = isBackward
    ? { dProjection, dqGain, dkGain }
    : { q: parts.q, k: parts.k, v: parts.v, ...(parts.gate && { gate: parts.gate }) };
  const ofRows = bytesOf(storage) * tokens * width;
  return {
    run() {
      if (!isBackward) attentionHeads(operands, parts, layout);
      else {
        const gradients = { dProjection, dqGain: written(dqGain), dkGain: written(dkGain) };
        attentionHeadsBackward(operands, parts, gradients, layout);
      }
    },
    outputs: () => outputsOf(results),
    bytes: (isBackward ? 3 : 2) * ofRows,
    judge: () => {
      const x = floatsOf(projection);
      const gains = { q: floatsOf(qGain), k: floatsOf(kGain) };
      const given = { q: floatsOf(parts.q), k: floatsOf(parts.k), v: floatsOf(parts.v) };
      const forward = {
        q: new Float64Array(given.q.length),
        k: new Float64Array(given.k.length),
        v: new Float64Array(given.v.length),
      };
      const back = { values: new Float64Array(x.length), sizes: new Float64Array(x.length) };
      const dGains = { q: new Float64Array(headDim), k: new Float64Array(headDim) };
      const gainSizes = { q: new Float64Array(headDim), k: new Float64Array(headDim) };
      for (let token = 0; token < tokens; token++) {
        const turn = angles(table, token % sequence, headDim);
        for (const { kind, column, index } of placesOf(layout)) {
          const at = token * width + column;
          const to = (token * (kind === 'q' ? heads : keyValueHeads) + index) * headDim;
          const [values, slopes] = [x.subarray(at, at + headDim), given[kind].subarray(to, to + headDim)];
          if (kind === 'v') {
            forward.v.set(values, to);
            back.values.set(slopes, at);
            continue;
          }
          const gain = gains[kind];
          const r = 1 / Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / headDim + EPSILON);
          forward[kind].set(
            turn(
              Float64Array.from(values, (value, c) => value * r * gain[c]!),
              1,
            ),
            to,
          );
          const dNormed = turn(Float64Array.from(slopes), -1);
          const dot = dNormed.reduce((sum, slope, c) => sum + slope * gain[c]! * values[c]!, 0);
          const dotSize = dNormed.reduce((sum, slope, c) => sum + Math.abs(slope * gain[c]! * values[c]!), 0);
          for (const [c, slope] of dNormed.entries()) {
            const value = values[c]!;
            back.values[at + c] = r * (slope * gain[c]! - (value * r * r * dot) / headDim);
            back.sizes[at + c] = r * (2 * Math.abs(gain[c]!) + (Math.abs(value) * r * r * dotSize) / headDim);
            dGains[kind][c]! += slope * value * r;
            gainSizes[kind][c]! += 2 * Math.abs(value * r);
          }
        }
      }
      const columns = gateColumns(layout);
      const gate = parts.gate && floatsOf(parts.gate);
      const taken = gate?.map(
        (_, i) => x[Math.floor(i / columns.length) * width + columns[i % columns.length]!]!,
      );
      for (const [i, slope] of gate?.entries() ?? [])
        back.values[Math.floor(i / columns.length) * width + columns[i % columns.length]!] = slope;
      const rounded = (values: Float64Array, size: (i: number) => number) => (i: number) =>
        1.01 * roundingOf(storage) * Math.abs(values[i]!) + 4e-6 * size(i) + 1e-30;
      const ofHeads = (kind: 'q' | 'k') => ({
        array: parts[kind],
        expected: forward[kind],
        bound: rounded(forward[kind], () => 4),
      });
      const ofGain = (array: DeviceArray, kind: 'q' | 'k') => ({
        array,
        expected: dGains[kind],
        bound: (i: number) => (tokens * heads + 16) * 2 ** -24 * gainSizes[kind][i]!,
      });
      if (isBackward) {
        return judged({
          dProjection: {
            array: dProjection,
            expected: back.values,
            bound: rounded(back.values, (i) => back.sizes[i]!),
          },
          dqGain: ofGain(dqGain, 'q'),
          dkGain: ofGain(dkGain, 'k'),
        });
      }
      const exactly = () => 1e-30;
      return judged({
        q: ofHeads('q'),
        k: ofHeads('k'),
        v: { array: parts.v, expected: forward.v, bound: exactly },
        ...(parts.gate && taken && { gate: { array: parts.gate, expected: taken, bound: exactly } }),
      });
    },
  };
}

/** Turns a head to a position, or back by a direction of −1. */
function angles({ cos, sin }: { cos: Float32Array; sin: Float32Array }, position: number, headDim: number) {
  const half = headDim / 2;
  return (head: Float64Array, direction: 1 | -1) =>
    head.map((value, c) => {
      const at = position * half + (c % half);
      const other = c < half ? -head[c + half]! : head[c - half]!;
      return value * cos[at]! + direction * other * sin[at]!;
    });
}

export interface GateSizes {
  readonly rows: number;
  readonly gate: HeadGate;
  readonly isHeadwise: boolean;
  readonly storage?: ActivationStorage;
}

/** Gates that heads do not share. */
export function gateHeadsCase(
  on: DeviceMemory,
  { rows, gate, isHeadwise, storage = 'bf16' }: GateSizes,
  isBackward: boolean,
): KernelCase {
  const { heads, channels, activation } = gate;
  const [width, logitsOfHead] = [heads * channels, isHeadwise ? 1 : channels];
  const activations = (seed: number) => randomArray(on, seed, rows * width, storage);
  const [y, dOut, out, dy] = [activations(1), activations(2), activations(4), activations(5)];
  const logits = randomArray(on, 3, rows * heads * logitsOfHead, storage, 3);
  const dLogits = on.allocate(logits.length, storage);
  const elements = rows * width + logits.length;
  return {
    run() {
      if (isBackward) gateHeadsBackward({ y, logits, dOut }, { dy, dLogits }, gate);
      else gateHeads(y, logits, out, gate);
    },
    outputs: () => outputsOf(isBackward ? { dy, dLogits } : { out }),
    bytes: bytesOf(storage) * (isBackward ? elements * 2 + rows * width : elements + rows * width),
    judge: () => {
      const [ys, slopes, given] = [floatsOf(y), floatsOf(dOut), floatsOf(logits)];
      const expected = { out: new Float64Array(y.length), dy: new Float64Array(y.length) };
      const [dGate, sizes] = [new Float64Array(logits.length), new Float64Array(logits.length)];
      for (const [i, value] of ys.entries()) {
        const at = isHeadwise ? Math.floor(i / channels) : i;
        const x = given[at]!;
        const open = sigmoid(x);
        const isSilu = activation === 'silu';
        const score = isSilu ? x * open : open;
        const slope = isSilu ? open * (1 + x * (1 - open)) : open * (1 - open);
        expected.out[i] = value * score;
        expected.dy[i] = slopes[i]! * score;
        dGate[at]! += slopes[i]! * value * slope;
        sizes[at]! += Math.abs(slopes[i]! * value) * (open + Math.abs(x * open));
      }
      const near =
        (values: Float64Array, size = (i: number) => Math.abs(values[i]!)) =>
        (i: number) =>
          1.01 * roundingOf(storage) * Math.abs(values[i]!) + 4e-6 * size(i) + 1e-30;
      return isBackward
        ? judged({
            dy: { array: dy, expected: expected.dy, bound: near(expected.dy) },
            dLogits: { array: dLogits, expected: dGate, bound: near(dGate, (i) => sizes[i]!) },
          })
        : judged({ out: { array: out, expected: expected.out, bound: near(expected.out) } });
    },
  };
}
