/**
 * What TensorFlow.js's own operations store in single precision in passes whose activations are bf16, and what the host sends for them: whole
 * activations, by an operand that nobody thought of, would cost a GPU twice the memory, and a copy. No kernel runs for that.
 */

import { computeGradients, selectBackend } from '@sluice/engine';
import { cudaBackend } from '@sluice/engine/cuda';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import { emulator } from '../engine/support/cuda.ts';
import { tinyDecoder, tinyModel, tokens } from './support.ts';
import { DEVICE_VARIANTS } from './variantModels.ts';

process.env.SLUICE_CUDA = 'emulated';
process.env.SLUICE_CUDA_WATCH = 'off';

/** More than any weight of these models has rows, or columns. */
const TOKENS = 211;

/** Numbers of each token that are meant to be in single precision there, by what has them. */
const MEANT: Readonly<Record<string, readonly number[]>> = {
  // Which copies are chosen of three for two heads: where each of two choices is, and both together.
  'switched values': [6, 12],
  // What a head's channels beside the others begin with.
  'a learned sink': [32],
  'capped scores and logits, a learned sink': [32],
  'much together, with experts': [4, 32],
  // β and decays: of heads, or of all channels of keys.
  'Gated DeltaNet': [4, 8],
  'Gated DeltaNet among attention, with a sandwich norm': [3, 6],
  'Kimi delta attention': [4, 64],
};

/** Told of each float that an operation of TensorFlow.js's own gives: how many numbers it has in single precision. */
function whenSingle(tell: (numbers: number) => void): void {
  for (const kernel of tf.getKernelsForBackend('cuda')) {
    const run = kernel.kernelFunc;
    if (kernel.kernelName.startsWith('Sluice')) continue;
    tf.unregisterKernel(kernel.kernelName, 'cuda');
    tf.registerKernel({
      ...kernel,
      kernelFunc(call) {
        const outputs = run(call);
        for (const output of [outputs].flat()) {
          // What hands values on stores none, and a constant has no memory.
          const isHandedOn = Object.values(call.inputs).some((input) => input?.dataId === output.dataId);
          if (output.dtype !== 'float32' || isHandedOn || cudaBackend().constantOf(output) !== undefined)
            continue;
          const { storage, length } = cudaBackend().valuesOf(output);
          if (storage === 'f32') tell(length);
        }
        return outputs;
      },
    });
  }
}

/** Told of each float tensor that the host makes, such as `tf.zeros`, and sends: how many numbers it has. */
function whenSent(tell: (numbers: number) => void): void {
  const backend = cudaBackend();
  const write = backend.write.bind(backend);
  backend.write = (values, shape, dtype) => {
    if (dtype === 'float32') tell(values.length);
    return write(values, shape, dtype);
  };
}

let widths = new Set<number>();

test.before(async () => {
  await selectBackend('cuda', 'bf16');
  emulator.set({ runsKernels: false });
  const tell = (numbers: number) => {
    if (numbers >= TOKENS) widths.add(Math.round(numbers / TOKENS));
  };
  whenSingle(tell);
  whenSent(tell);
});

for (const [name, keys] of Object.entries(DEVICE_VARIANTS)) {
  test.serial(`${name}: plain operations store in single precision what is meant to be`, (t) => {
    widths = new Set();
    const model = tinyModel(keys);
    const { decoder, parameters } = tinyDecoder(model, 0);
    const [inputs, targets] = [tokens(TOKENS), tokens(TOKENS, 2)];
    const batch = { inputs, targets, sequences: 1, totalTokens: TOKENS, expertLoads: [] };
    computeGradients(() => decoder.loss(batch));
    t.deepEqual(
      [...widths].sort((a, b) => a - b),
      MEANT[name] ?? [],
    );
    for (const parameter of parameters.values()) parameter.release();
  });
}
