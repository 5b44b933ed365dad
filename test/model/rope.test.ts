import { readFileSync } from 'node:fs';
import { rotaryTable } from '@sluice/engine';
import { importModelConfig, ModelConfig, rotaryFrequencies, rotaryTableFor } from '@sluice/model';
import test from 'ava';
import fc from 'fast-check';
import { fixture, readFloats } from '../fixtures/huggingface/fixtures.ts';
import { relativeError } from '../support/relativeError.ts';

const configs: Record<string, object> = JSON.parse(readFileSync(fixture('rope/configs.json'), 'utf8'));
const base = {
  model_type: 'qwen3',
  vocab_size: 96,
  hidden_size: 16,
  num_hidden_layers: 1,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 8,
};

/** The model that a `config.json` with these keys of the rotary embedding describes. */
const modelOf = (keys: object) => importModelConfig({ ...base, ...keys }, 'config.json').model;

for (const [name, keys] of Object.entries(configs)) {
  test(`${name}: frequencies, attention factor and tables are those of transformers`, async (t) => {
    const expected = await readFloats(fixture('rope/expected.safetensors'));
    const of = (part: string) => expected.get(`${name}.${part}`)!.values;
    const model = modelOf(keys);
    const { frequencies, attentionFactor } = rotaryFrequencies(model);
    // Each by its own size: the smallest are a millionth of the largest.
    for (const [i, frequency] of frequencies.entries())
      t.true(Math.abs(frequency / of('frequencies')[i]! - 1) < 1e-6, `frequency ${i}`);
    t.is(Math.fround(attentionFactor), of('factor')[0]!);
    const { cos, sin } = rotaryTableFor(model, of('cos').length / frequencies.length);
    t.true(relativeError(cos, of('cos')) < 1e-5);
    t.true(relativeError(sin, of('sin')) < 1e-5);
  });
}

test('YaRN for the paper’s step from 32k to 128k: the ramp runs from pair 23 to pair 40, m is 1.138629', (t) => {
  const { headDim, ropeTheta, ropeScaling } = modelOf(configs['yarn-paper']!);
  const { frequencies, attentionFactor } = rotaryFrequencies({ headDim, ropeTheta, ropeScaling });
  t.is(attentionFactor.toFixed(6), '1.138629');
  const plain = rotaryFrequencies({ headDim, ropeTheta }).frequencies;
  const share = [...frequencies].map((frequency, i) => frequency / plain[i]!);
  t.is(share.lastIndexOf(1), 23);
  t.is(
    share.findIndex((kept) => Math.abs(kept - 0.25) < 1e-12),
    40,
  );
});

test('without scaling, the table is the engine’s own', (t) => {
  const model = { headDim: 16, ropeTheta: 5000 };
  t.deepEqual(rotaryTableFor(model, 7), rotaryTable(7, 16, 5000));
});

test('a factor of 1 changes nothing, and interpolation divides positions', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 32 }),
      fc.double({ min: 2, max: 1e7, noNaN: true }),
      fc.integer({ min: 1, max: 100_000 }),
      fc.integer({ min: 2, max: 16 }),
      (half, ropeTheta, originalLength, factor) => {
        const plain = { headDim: 2 * half, ropeTheta };
        const yarn = { kind: 'yarn' as const, originalLength, betaFast: 32, betaSlow: 1 };
        const unscaled = rotaryFrequencies({ ...plain, ropeScaling: { ...yarn, factor: 1 } });
        t.is(unscaled.attentionFactor, 1);
        t.true(relativeError(unscaled.frequencies, rotaryFrequencies(plain).frequencies) < 1e-14);
        // Any ramp lies between keeping a frequency and dividing it.
        const { frequencies } = rotaryFrequencies({ ...plain, ropeScaling: { ...yarn, factor } });
        for (const [i, frequency] of rotaryFrequencies(plain).frequencies.entries()) {
          t.true(frequencies[i]! <= frequency * (1 + 1e-12));
          t.true(frequencies[i]! >= (frequency / factor) * (1 - 1e-12));
        }
        const stretched = rotaryTableFor(
          { ...plain, ropeScaling: { kind: 'linear', factor } },
          2 * factor + 1,
        );
        const [close, far] = [rotaryTableFor(plain, 3).cos, stretched.cos];
        for (let i = 0; i < half; i++)
          t.true(Math.abs(close[2 * half + i]! - far[2 * factor * half + i]!) < 1e-5);
      },
    ),
    { numRuns: 50 },
  );
});

test('a scaling of an unknown kind, or without its trained length, is refused by the configuration', (t) => {
  const model = {
    vocabularySize: 8,
    hiddenSize: 8,
    numLayers: 1,
    numAttentionHeads: 2,
    numKeyValueHeads: 1,
    headDim: 4,
    intermediateSize: 8,
  };
  const parses = (ropeScaling: object) => ModelConfig.safeParse({ ...model, ropeScaling }).success;
  t.true(parses({ kind: 'linear', factor: 2 }));
  t.true(parses({ kind: 'yarn', factor: 2, originalLength: 64 }));
  t.false(parses({ kind: 'yarn', factor: 2 }));
  t.false(parses({ kind: 'linear', factor: 0.5 }));
  t.false(parses({ kind: 'dynamic', factor: 2 }));
});
