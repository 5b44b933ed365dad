import { documentLosses, loadForInference } from '@sluice/evaluate';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import { fixture } from '../fixtures/huggingface/fixtures.ts';

const load = (backend: string) => loadForInference(fixture('qwen3'), { backend, threads: 1 });

/** Cross-entropy of each target from the logits, in double precision. */
function tokenLosses(logits: Float32Array, targets: Int32Array): number[] {
  const vocabulary = logits.length / targets.length;
  return Array.from(targets, (target, t) => {
    const row = Array.from(logits.subarray(t * vocabulary, (t + 1) * vocabulary));
    const highest = Math.max(...row);
    return highest + Math.log(row.reduce((sum, x) => sum + Math.exp(x - highest), 0)) - row[target]!;
  });
}

const LENGTH = 20;
const tokenAt = (sample: number, i: number) => (sample * 31 + i * 37 + 11) % 96;
const sampler = {
  sequenceLength: LENGTH,
  numSequences: 100,
  read: (sample: number, target: Int32Array) => {
    for (let i = 0; i < target.length; i++) target[i] = tokenAt(sample, i);
  },
};

function document(name: string, sampleStart: number, sampleEnd: number) {
  const range = { documentStart: 0, documentEnd: sampleEnd - sampleStart, sampleStart, sampleEnd };
  return { source: 's', name, index: 0, ...range };
}

const SAMPLES = [
  { sample: 3, documents: [document('a', 0, 1), document('b', 1, 8), document('c', 8, LENGTH + 1)] },
  { sample: 5, documents: [document('d', 0, 12), document('e', 12, LENGTH + 1)] },
];

for (const backend of ['native', 'cpu']) {
  test.serial(`${backend}: losses of documents are means over their tokens, highest first`, async (t) => {
    const { decoder } = await load(backend);
    const scored = await documentLosses(decoder, sampler, SAMPLES);
    // The first pass makes what stays, such as tables of angles.
    const before = tf.memory().numTensors;
    t.deepEqual(await documentLosses(decoder, sampler, SAMPLES), scored);
    t.is(tf.memory().numTensors, before);
    t.deepEqual(scored.map(({ name }) => name).sort(), ['a', 'b', 'c', 'd', 'e']);
    for (const { sample, name, sampleStart, sampleEnd, tokens, loss, ids } of scored) {
      const all = Int32Array.from({ length: LENGTH + 1 }, (_, i) => tokenAt(sample, i));
      t.deepEqual(ids, all.slice(sampleStart, sampleEnd));
      const logits = decoder.logits({ inputs: all.slice(0, -1), sequences: 1 });
      const losses = tokenLosses(logits.dataSync<'float32'>(), all.slice(1));
      logits.dispose();
      const own = losses.slice(Math.max(0, sampleStart - 1), sampleEnd - 1);
      t.is(tokens, own.length);
      if (own.length === 0) t.is(loss, null);
      else t.true(Math.abs(loss! - own.reduce((a, b) => a + b, 0) / own.length) < 1e-4, name);
    }
    const losses = scored.map(({ loss }) => loss ?? Number.NEGATIVE_INFINITY);
    t.deepEqual(
      losses,
      losses.toSorted((a, b) => b - a),
    );
    t.is(scored.at(-1)!.name, 'a', 'the first token of a sample is predicted by nothing');
  });
}

test.serial(
  'where documents are kept apart, the loss of one does not depend on what comes before it',
  async (t) => {
    const { decoder } = await load('native');
    const END = 95;
    /** Eight tokens that differ from sample to sample, their end, and twelve that are always the same. */
    const apart = {
      ...sampler,
      read: (sample: number, target: Int32Array) => {
        for (let i = 0; i < target.length; i++) target[i] = i < 8 ? tokenAt(sample, i) % 90 : (i * 7) % 90;
        target[8] = END;
      },
    };
    const samples = [3, 5].map((sample) => ({
      sample,
      // Without its first token, which is predicted from the end of the one before.
      documents: [document('before', 0, 9), document('same', 10, LENGTH + 1)],
    }));
    const losses = async (source: Parameters<typeof documentLosses>[1]) => {
      const scored = await documentLosses(decoder, source, samples);
      return scored.filter(({ name }) => name === 'same').map(({ loss }) => loss);
    };
    const [a, b] = await losses({ ...apart, documentMarks: { begin: undefined, end: END } });
    const [c, d] = await losses(apart);
    t.not(c, d);
    t.true(Math.abs(a! - b!) < Math.abs(c! - d!));
  },
);
