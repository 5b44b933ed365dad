/** Holds the whole model against PyTorch: `transformers`, and for the gated layout the paper's released code. */

import { HuggingFaceDirectory } from '@sluice/checkpoint/huggingface';
import { computeGradients, Parameter } from '@sluice/engine';
import { loadForInference } from '@sluice/evaluate';
import { Decoder, modelParameters } from '@sluice/model';
import * as tf from '@tensorflow/tfjs';
import test, { type ExecutionContext } from 'ava';
import { CASES, type Case, type Expected, expectedOf, fixture } from '../fixtures/huggingface/fixtures.ts';
import { relativeError } from '../support/relativeError.ts';

/** What f32 sums in another order may differ by. The differences seen are ten to a hundred times smaller. */
const TOLERANCE = 1e-5;

/** The rows without their last tokens, and without their first. */
function nextTokens({ shape: [rows, length], ids }: Expected) {
  const cut = (skipped: number) => {
    const tokens = new Int32Array(rows * length);
    for (let row = 0; row < rows; row++) {
      const begin = row * (length + 1) + skipped;
      tokens.set(ids.subarray(begin, begin + length), row * length);
    }
    return tokens;
  };
  return { inputs: cut(0), targets: cut(1), sequences: rows };
}

/** The model with places for the gradients of its logical tensors. */
async function trainable(name: Case) {
  const directory = await HuggingFaceDirectory.open(fixture(name));
  const parameters = new Map<string, Parameter>();
  const gradients = new Map<string, Float32Array>();
  for (const spec of modelParameters(directory.model)) {
    const values = new Float32Array(spec.size);
    const gradient = new Float32Array(spec.size);
    for (const { name: tensor, offset, size } of spec.tensors) {
      await directory.read(tensor, values.subarray(offset, offset + size));
      gradients.set(tensor, gradient.subarray(offset, offset + size));
    }
    const parameter = new Parameter(spec.name, spec.shape, values);
    let accumulate = false;
    parameter.sink = () => {
      const target = { values: gradient, accumulate };
      accumulate = true;
      return target;
    };
    parameters.set(spec.name, parameter);
  }
  await directory.close();
  const { model } = directory;
  // The balance loss of `transformers` is another one; the fixtures are of the cross-entropy alone.
  const config = model.experts
    ? { ...model, experts: { ...model.experts, balanceCoefficient: 0, zCoefficient: 0 } }
    : model;
  return { decoder: new Decoder(config, parameters), gradients };
}

async function compareGradients(t: ExecutionContext, backend: string, name: Case): Promise<void> {
  const expected = await expectedOf(name);
  const { decoder, gradients } = await trainable(name);
  tf.setBackend(backend);
  const batch = nextTokens(expected);
  const totalTokens = batch.inputs.length;
  const loss = computeGradients(() => decoder.loss({ ...batch, totalTokens, expertLoads: [] }));
  t.true(Math.abs(loss / expected.loss - 1) < TOLERANCE, `loss ${loss}, PyTorch ${expected.loss}`);
  t.deepEqual([...gradients.keys()].sort(), [...expected.gradients.keys()].sort());
  let worst = 0;
  for (const [tensor, gradient] of gradients) {
    const target = expected.gradients.get(tensor)!;
    // That of an expert without tokens is all zeros.
    const isZero = target.every((x) => x === 0);
    const difference = isZero ? Math.max(...gradient.map(Math.abs)) : relativeError(gradient, target);
    t.true(difference < TOLERANCE, `${tensor}: ${difference}`);
    worst = Math.max(worst, difference);
  }
  t.log(`gradients: ${worst.toExponential(1)}, loss: ${Math.abs(loss / expected.loss - 1).toExponential(1)}`);
}

for (const name of CASES) {
  test.serial(`${name}: logits are those of PyTorch`, async (t) => {
    const expected = await expectedOf(name);
    const model = await loadForInference(fixture(name), { backend: 'native', threads: 1 });
    const { inputs, sequences } = nextTokens(expected);
    const logits_NV = model.decoder.logits({ inputs, sequences });
    const difference = relativeError(logits_NV.dataSync(), expected.logits);
    logits_NV.dispose();
    t.true(difference < TOLERANCE, String(difference));
    t.log(`logits: ${difference.toExponential(1)}`);
  });

  test.serial(
    `${name}: the loss and its gradient with respect to every parameter are those of PyTorch`,
    (t) => compareGradients(t, 'native', name),
  );
}

test.serial('the plain operations of another backend agree with PyTorch as well', async (t) => {
  await compareGradients(t, 'cpu', 'gated-elementwise');
  await compareGradients(t, 'cpu', 'qwen3-moe');
});
