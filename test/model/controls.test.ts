/** Controls against their formulas; `test/train/diagnostics.test.ts` has those that are seen in a layer's measurements. */

import { ModelConfig, modelTensors } from '@sluice/model';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import { relativeError } from '../engine/support/differential.ts';
import { lossOf, tinyDecoder, tinyModel, tokens } from './support.ts';

const logitsOf = (keys: object): Float32Array => {
  const { decoder } = tinyDecoder(tinyModel(keys));
  const logits = decoder.logits({ inputs: tokens(9), sequences: 1 });
  return logits.dataSync<'float32'>();
};

test('a cap of the logits is cap · tanh(logit / cap), for all of them and for the next token', (t) => {
  tf.setBackend('native');
  const expected = logitsOf({}).map((logit) => 1.5 * Math.tanh(logit / 1.5));
  t.true(expected.some((logit) => Math.abs(logit) > 1));
  const controls = [{ kind: 'softcap', logits: 1.5 }];
  t.true(relativeError(logitsOf({ controls }), expected) < 1e-5);
  const { decoder } = tinyDecoder(tinyModel({ controls }));
  const next = decoder.nextTokenLogits(tokens(9));
  t.true(relativeError(next, expected.slice(-next.length)) < 1e-5);
});

test('a cap that is far away changes next to nothing', (t) => {
  tf.setBackend('native');
  const controls = [{ kind: 'softcap', attention: 1e4, logits: 1e4 }];
  t.true(relativeError(logitsOf({ controls }), logitsOf({})) < 1e-5);
  const [far, none] = [tinyModel({ controls }), tinyModel()].map((model) => lossOf(tinyDecoder(model)));
  t.true(Math.abs(far! - none!) < 1e-5);
});

test('a cap of nothing is refused', (t) => {
  const error = t.throws(() => tinyModel({ controls: [{ kind: 'softcap' }] }));
  t.regex(error.message, /a softcap of nothing: give attention, logits, or both/);
});

test('the gains of a depth-scaled sandwich norm begin at one over the root of the layers', (t) => {
  const gainsOf = (control: object) =>
    modelTensors(tinyModel({ numLayers: 4, controls: [{ kind: 'sandwich-norm', ...control }] }))
      .filter(({ name }) => name.endsWith('.output_norm.weight'))
      .map(({ initial }) => initial);
  t.deepEqual(gainsOf({ initialGain: 'depth-scaled' }), Array(8).fill(0.5));
  t.deepEqual(gainsOf({}), Array(8).fill(1));
});

test('controls survive being written and read again', (t) => {
  const model = tinyModel({
    controls: [
      { kind: 'softcap', attention: 50, logits: 30 },
      { kind: 'sandwich-norm', initialGain: 'depth-scaled' },
    ],
  });
  t.deepEqual(ModelConfig.parse(JSON.parse(JSON.stringify(model))), model);
});
