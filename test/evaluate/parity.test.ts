import { computeGradients } from '@sluice/engine';
import { loadForInference } from '@sluice/evaluate';
import * as tf from '@tensorflow/tfjs';
import test, { type ExecutionContext } from 'ava';
import { CASES, type Case, type Expected, expectedOf, fixture } from '../fixtures/huggingface/fixtures.ts';
import { relativeError } from '../support/relativeError.ts';
import { trainable } from './support/trainable.ts';

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
