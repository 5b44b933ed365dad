/**
 * A place for attention to go that is no token. The weights of a row of scores x become e^{x_j} / (e^s + Σ e^{x_j}): with
 * s = 0 this is softmax-off-by-one (Miller, 2023); with a learned s of each head, the sinks of gpt-oss (OpenAI, 2025).
 *
 * It is had by a token before the first one (of each document, where these are kept apart) whose value is zero and whose score is s, so that attention's own kernel
 * computes it in memory linear in the sequence. A zero key makes s = 0. For a learned s, heads get channels in which only
 * that token's key is not zero, and that hold s in the queries.
 */

import {
  type AttentionLayout,
  cachedAttention,
  documentBounds,
  gatedAttention,
  gatherRows,
  valuesOnHost,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import { z } from 'zod';
import type { BlockContext } from '../block.ts';
import type { AttentionOperands, Control } from './control.ts';

const Settings = z.strictObject({
  kind: z.literal('attention-sink').describe('Lets attention weights sum to less than 1.'),
  score: z
    .enum(['learned', 'zero'])
    .default('learned')
    .describe('learned: a score of each head, 0 at first; zero: softmax-off-by-one.'),
});

type Settings = z.infer<typeof Settings>;

const SCORES = 'self_attn.sinks';

/** Channels that a learned score adds to a head: one would do, more keep rows aligned. */
const EXTRA_CHANNELS = 8;

export const attentionSink: Control<Settings> = {
  schema: Settings,
  tensors: ({ score }, { numAttentionHeads }) =>
    score === 'zero' ? [] : [{ name: SCORES, shape: [numAttentionHeads], initial: 0, decay: false }],
  keptWidths({ score }, { numAttentionHeads, numKeyValueHeads, headDim }) {
    const [queries, keys] = [numAttentionHeads * headDim, numKeyValueHeads * headDim];
    // Everything with the sink's token before it, and the output with and without that.
    if (score === 'zero') return [queries, keys, keys, queries];
    const extra = numAttentionHeads * EXTRA_CHANNELS;
    const [wideQueries, wideKeys] = [queries + extra, keys + numKeyValueHeads * EXTRA_CHANNELS];
    // Scaled queries, and what is added to them, which comes of weights alone; what is widened, and the same with the sink's token.
    return [
      ...[queries, { words: extra }, wideQueries, wideQueries],
      ...[wideKeys, wideKeys, wideKeys, wideKeys],
      ...[wideQueries, wideQueries],
    ];
  },
  extraChannels: ({ score }) => (score === 'zero' ? 0 : EXTRA_CHANNELS),
  attend({ score }, operands, context) {
    return score === 'zero' ? attendAfterSink(operands, 0) : attendLearned(operands, context);
  },
  sinkScores: ({ score }, { sizes, parameter }) =>
    score === 'zero' ? new Float32Array(sizes.numAttentionHeads) : parameter(SCORES).hostValues,
};

/** [N, H·D] as [N, H, D + extra], of which the last channels are `tail`. */
function widen(x: tf.Tensor2D, headDim: number, tail_NHE: tf.Tensor): tf.Tensor3D {
  return tf.concat([tf.reshape(x, [x.shape[0], -1, headDim]), tail_NHE], 2) as tf.Tensor3D;
}

function attendLearned({ q, k, v, layout, seen }: AttentionOperands, context: BlockContext): tf.Tensor2D {
  const { heads, keyValueHeads, headDim } = layout;
  const wide = headDim + EXTRA_CHANNELS;
  const flat = (x: tf.Tensor3D) => tf.reshape(x, [x.shape[0], -1]) as tf.Tensor2D;
  const zeros = (rows: number, count: number, channels = EXTRA_CHANNELS) =>
    tf.fill<tf.Rank.R3>([rows, count, channels], 0);
  const scores_1H1 = tf.reshape(context.parameter(SCORES).onTape(), [1, heads, 1]);
  // Attention divides by √(D + extra), so the true scores need the factor that makes it √D.
  const tail_1HE = tf.concat([tf.mul(scores_1H1, Math.sqrt(wide)), zeros(1, heads, EXTRA_CHANNELS - 1)], 2);
  const tail_NHE = tf.add(zeros(q.shape[0], heads), tail_1HE);
  const operands = {
    q: flat(widen(tf.mul(q, Math.sqrt(wide / headDim)), headDim, tail_NHE)),
    k: flat(widen(k, headDim, zeros(k.shape[0], keyValueHeads))),
    v: flat(widen(v, headDim, zeros(v.shape[0], keyValueHeads))),
    layout: { ...layout, headDim: wide },
    seen: seen && {
      keys: widenSeen(valuesOnHost(seen.keys), seen.tokens, layout),
      values: widenSeen(valuesOnHost(seen.values), seen.tokens, layout),
      tokens: seen.tokens,
    },
  };
  const y_NHW = tf.reshape(attendAfterSink(operands, 1), [-1, heads, wide]) as tf.Tensor3D;
  return flat(tf.slice(y_NHW, [0, 0, 0], [-1, -1, headDim]));
}

function widenSeen(
  values: Float32Array,
  tokens: number,
  { keyValueHeads, headDim }: AttentionLayout,
): Float32Array {
  const wide = new Float32Array(tokens * keyValueHeads * (headDim + EXTRA_CHANNELS));
  for (let row = 0; row < tokens * keyValueHeads; row++) {
    wide.set(values.subarray(row * headDim, (row + 1) * headDim), row * (headDim + EXTRA_CHANNELS));
  }
  return wide;
}

/** Attention with a token of value zero before the first; its key is zero but for `mark` in the first extra channel. */
function attendAfterSink({ q, k, v, layout, seen }: AttentionOperands, mark: number): tf.Tensor2D {
  const { keyValueHeads, headDim } = layout;
  const key_D = new Float32Array(headDim);
  if (mark !== 0) key_D[headDim - EXTRA_CHANNELS] = mark;
  const key = Float32Array.from({ length: keyValueHeads * headDim }, (_, i) => key_D[i % headDim]!);
  const none = new Float32Array(keyValueHeads * headDim);
  if (seen) {
    const before = (first: Float32Array, rest: Float32Array) => {
      const all = new Float32Array((seen.tokens + 1) * first.length);
      all.set(first);
      all.set(rest.subarray(0, seen.tokens * first.length), first.length);
      return all;
    };
    const [keys, values] = [before(key, valuesOnHost(seen.keys)), before(none, valuesOnHost(seen.values))];
    const all = { keys, values, tokens: seen.tokens + 1 };
    return cachedAttention(q, all, undefined, layout);
  }
  const attend = layout.documents ? attendAfterRows : attendAfterRow;
  return attend({ q, k, v, layout }, { q: new Float32Array(q.shape[1]), k: key, v: none });
}

type Operands = Pick<AttentionOperands, 'q' | 'k' | 'v' | 'layout'>;

/** What stands before the first token. */
interface SinkRows {
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
}

/** With a row before the first of each sequence. */
function attendAfterRow({ q, k, v, layout }: Operands, sink: SinkRows): tf.Tensor2D {
  const { batch, sequence } = layout;
  const prepend = (x: tf.Tensor2D, row: Float32Array): tf.Tensor2D => {
    const width = x.shape[1];
    const first_B1W = tf.tile(tf.tensor(row, [1, 1, width]), [batch, 1, 1]);
    const all = tf.concat([first_B1W, tf.reshape(x, [batch, sequence, width])], 1);
    return tf.reshape(all, [batch * (sequence + 1), width]);
  };
  const y = gatedAttention(prepend(q, sink.q), prepend(k, sink.k), prepend(v, sink.v), undefined, {
    ...layout,
    sequence: sequence + 1,
  });
  const y_BTW = tf.reshape(y, [batch, sequence + 1, q.shape[1]]);
  return tf.reshape(tf.slice(y_BTW, [0, 1, 0], [-1, sequence, -1]), q.shape);
}

/** With a row before the first of each document. */
function attendAfterRows({ q, k, v, layout }: Operands, sink: SinkRows): tf.Tensor2D {
  const { layout: wide, rows, places } = layoutWithSinks(layout);
  const prepend = (x: tf.Tensor2D, row: Float32Array) => gatherRows(x, rows, places, row);
  const y = gatedAttention(prepend(q, sink.q), prepend(k, sink.k), prepend(v, sink.v), undefined, wide);
  return gatherRows(y, places, rows);
}

/**
 * A row more before each document. Sequences stay equally long: those with fewer documents than others end with rows of
 * sinks, which are a document of their own.
 * @returns the layout, the row of a token that each of its rows is (as many as there are for a sink), and the row in it of each token
 */
function layoutWithSinks(layout: AttentionLayout): {
  layout: AttentionLayout;
  rows: Int32Array;
  places: Int32Array;
} {
  const { batch, sequence } = layout;
  const bounds = documentBounds(layout);
  const tokens = batch * sequence;
  const perSequence = new Int32Array(batch);
  for (const start of bounds.subarray(0, -1)) perSequence[Math.floor(start / sequence)]!++;
  const length = sequence + Math.max(...perSequence);
  const rows = new Int32Array(batch * length).fill(tokens);
  const places = new Int32Array(tokens);
  const documents: number[] = [];
  let row = 0;
  for (let document = 0; document + 1 < bounds.length; document++) {
    documents.push(row++);
    for (let token = bounds[document]!; token < bounds[document + 1]!; token++, row++) {
      rows[row] = token;
      places[token] = row;
    }
    const isLast = bounds[document + 1]! % sequence === 0;
    if (isLast && row % length !== 0) {
      documents.push(row);
      row += length - (row % length);
    }
  }
  return { layout: { ...layout, sequence: length, documents: Int32Array.from(documents) }, rows, places };
}
