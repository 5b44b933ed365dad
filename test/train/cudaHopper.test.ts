/** A model trained with a Hopper's own kernels, on the emulator: the weights that those of all cards give. */

import { hashPiece, hashTensors } from '@sluice/checkpoint';
import { selectBackend } from '@sluice/engine';
import { type CudaDevice, cudaBackend } from '@sluice/engine/cuda';
import { savedTensors } from '@sluice/train';
import test from 'ava';
import { tinyRun, tinyTrainer } from './support/tinyTrainer.ts';

process.env.SLUICE_CUDA = 'emulated';

/** Large enough for them: heads of 64 channels; 128 tokens at a time, of which each expert has some 85. */
const run = tinyRun({
  model: { hiddenSize: 72, headDim: 64, numLayers: 1, experts: { count: 3, topK: 2, intermediateSize: 72 } },
  batch: { sequences: 16, grainSequences: 16 },
  lanes: 1,
});

/** Trains two steps. @returns a hash of the weights, and the kernels that were asked for */
async function trained(isHopper: boolean) {
  await selectBackend('cuda');
  const { device } = cudaBackend();
  (device as { isHopper: boolean }).isHopper = isHopper;
  const kernels = new Set<string>();
  const kernelOf = device.kernelOf.bind(device);
  device.kernelOf = (...[source, name]: Parameters<CudaDevice['kernelOf']>) => {
    kernels.add(name);
    return kernelOf(source, name);
  };
  try {
    const trainer = await tinyTrainer(run, { backend: 'cuda' });
    for (const step of [1, 2]) await trainer.trainStep({ step, learningRate: 0.01 });
    return { weights: hashTensors(savedTensors(run), trainer.pieces().map(hashPiece)), kernels };
  } finally {
    device.kernelOf = kernelOf;
  }
}

test('a run has the same weights with a Hopper’s own kernels and without', async (t) => {
  const [others, own] = [await trained(false), await trained(true)];
  t.deepEqual(own.weights, others.weights);
  t.false([...others.kernels].some((name) => name.includes('Hopper')));
  const taken = [...own.kernels]
    .filter((name) => name.includes('Hopper'))
    .map((name) => name.replace(/(Small|Large)$/, ''));
  const products = ['', 'Plain', 'Transposed'].flatMap((kind) => [
    `matmul${kind}Hopper`,
    `expertMatmul${kind}Hopper`,
  ]);
  const expected = [
    ...products,
    ...['attention', 'attentionKeys', 'attentionQueries'].map((name) => `${name}Hopper64`),
  ];
  t.deepEqual([...new Set(taken)].sort(), expected.sort());
});
