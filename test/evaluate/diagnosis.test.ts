import { forEachAttentionRow, selectBackend } from '@sluice/engine';
import { loadForInference, spreadLayers } from '@sluice/evaluate';
import type { TokenBatch } from '@sluice/model';
import { ForwardMeter, summarize } from '@sluice/train';
import test from 'ava';
import { attentionMaps } from '../../packages/evaluate/src/attentionMaps.ts';
import { diagnose } from '../../packages/evaluate/src/diagnosis.ts';
import { fixture } from '../fixtures/huggingface/fixtures.ts';
import { tinyDecoder, tinyModel, tokens } from '../model/support.ts';

test.before(async () => {
  await selectBackend('native');
});

const LENGTH = 9;
const update = { missing: 'nothing was trained' };
const source = {
  numSequences: 7,
  sequenceLength: LENGTH,
  read(sample: number, target: Int32Array) {
    target.set(tokens(target.length, sample + 1));
  },
};

test.serial('passes of a few sequences measure what one pass over all does', async (t) => {
  const { decoder } = tinyDecoder(tinyModel({ numLayers: 2 }));
  const progress: number[][] = [];
  const { maps, ...measured } = await diagnose(decoder, source, {
    sequences: 6,
    update,
    onProgress: (done, total) => progress.push([done, total]),
  });
  t.deepEqual(maps, []);
  t.deepEqual(progress, [
    [4, 6],
    [6, 6],
  ]);
  const inputs = new Int32Array(6 * LENGTH);
  for (let s = 0; s < 6; s++) inputs.set(tokens(LENGTH + 1, s + 1).subarray(0, LENGTH), s * LENGTH);
  const meter = new ForwardMeter(decoder.config);
  decoder.observe({ inputs, sequences: 6 }, meter);
  const whole = summarize(decoder.config, meter.tally, { sequences: 6, sequenceLength: LENGTH });
  t.is(measured.sequences, 6);
  t.is(measured.massiveActivation, whole.massiveActivation);
  t.deepEqual(measured.gates[0]!.histogram, whole.gates[0]!.histogram);
  t.true(Math.abs(measured.firstTokenAttention! - whole.firstTokenAttention!) < 1e-9);
  t.true(Math.abs(measured.gateScoreMean! - whole.gateScoreMean!) < 1e-12);
});

test.serial('the size of an update is that of the source, layer by layer', async (t) => {
  const { decoder } = tinyDecoder(tinyModel({ numLayers: 2 }));
  const known = { ratios: { overall: 0.25, layers: [0.125, 0.5], groups: {} } };
  const { updateRatio, layers, noUpdateRatio } = await diagnose(decoder, source, {
    sequences: 1,
    update: known,
  });
  t.is(updateRatio, 0.25);
  t.deepEqual(
    layers.map((layer) => layer.updateRatio),
    [0.125, 0.5],
  );
  t.is(noUpdateRatio, undefined);
});

test.serial('more sequences than there are is all of them', async (t) => {
  const { decoder } = tinyDecoder(tinyModel());
  t.is((await diagnose(decoder, source, { sequences: 100, update })).sequences, 7);
});

test.serial('a map holds the attention of its head, or the mean of all', (t) => {
  const { decoder } = tinyDecoder(tinyModel({ numLayers: 3 }));
  const one = { inputs: tokens(LENGTH), sequences: 1 };
  const expected: number[][] = [];
  decoder.observe(one, {
    attention(layer, operands) {
      if (layer !== 1) return;
      for (let head = 0; head < 4; head++) {
        const map = new Array<number>(LENGTH * LENGTH).fill(0);
        forEachAttentionRow(operands, 0, head, ({ query, weights }) => {
          for (const [key, weight] of weights.entries()) map[query * LENGTH + key] = weight;
        });
        expected.push(map);
      }
    },
  });
  const [own] = attentionMaps(decoder, one, { layers: [1], heads: [2] });
  t.like(own, { layer: 1, head: 2, tokens: LENGTH, cells: LENGTH });
  t.true(own!.weights.every((weight, i) => Math.abs(weight - expected[2]![i]!) < 1e-7));
  t.true(own!.firstToken.every((weight, i) => weight === own!.weights[i * LENGTH]));
  const [mean] = attentionMaps(decoder, one, { layers: [1] });
  t.is(mean!.head, null);
  const meanAt = (i: number) => expected.reduce((sum, map) => sum + map[i]! / 4, 0);
  t.true(mean!.weights.every((weight, i) => Math.abs(weight - meanAt(i)) < 1e-7));
});

test.serial('in a map, documents that are kept apart do not see each other', (t) => {
  const { decoder } = tinyDecoder(tinyModel());
  const inputs = tokens(LENGTH);
  const mapOf = (batch: TokenBatch) => attentionMaps(decoder, batch, { layers: [0] })[0]!;
  const whole = mapOf({ inputs, sequences: 1, documents: Int32Array.of(0, 4) });
  const second = mapOf({ inputs: inputs.slice(4), sequences: 1 });
  for (let query = 4; query < LENGTH; query++) {
    const row = [...whole.weights.subarray(query * LENGTH, (query + 1) * LENGTH)];
    const own = second.weights.subarray((query - 4) * (LENGTH - 4), (query - 3) * (LENGTH - 4));
    t.deepEqual(row, [0, 0, 0, 0, ...own]);
    t.is(whole.firstToken[query], row[4]);
  }
});

test.serial('a long sequence is shown in cells of neighbouring tokens, whose rows still sum to one', (t) => {
  const { decoder } = tinyDecoder(tinyModel());
  const [map] = attentionMaps(decoder, { inputs: tokens(300), sequences: 1 }, { layers: [0] });
  t.like(map, { tokens: 300, cells: 100 });
  for (let row = 0; row < 100; row++) {
    const sum = map!.weights.subarray(row * 100, (row + 1) * 100).reduce((a, b) => a + b, 0);
    t.true(Math.abs(sum - 1) < 1e-5, `row ${row}: ${sum}`);
  }
  t.true(map!.firstToken[50]! < map!.weights[50 * 100]!);
});

test('layers are spread from the first to the last', (t) => {
  t.deepEqual(spreadLayers(1), [0]);
  t.deepEqual(spreadLayers(3), [0, 1, 2]);
  t.deepEqual(spreadLayers(28), [0, 9, 18, 27]);
});

test.serial('a Hugging Face directory is diagnosed on a text; without one there is no corpus', async (t) => {
  const model = await loadForInference(fixture('qwen3'), { backend: 'native', threads: 1 });
  const text = 'import torch\n'.repeat(40);
  const measured = await model.diagnose({ split: 'validation', text, sequences: 2, sequenceLength: 16 });
  t.like(measured, { sequences: 2, sequenceLength: 16, gateScoreMean: null, updateRatio: null });
  t.regex(measured.noUpdateRatio!, /Hugging Face directory holds no moments/);
  t.is(measured.layers.length, model.decoder.config.numLayers);
  await t.throwsAsync(model.diagnose({ split: 'validation', sequences: 2 }), {
    code: 'SLUICE_E_DATA_UNKNOWN',
  });
});
