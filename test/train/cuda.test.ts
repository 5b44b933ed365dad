/** Models trained on `cuda`, whose kernels an emulator runs: near to `native`, and with the same bits however they are trained. */

import { fileURLToPath } from 'node:url';
import { type HashedPiece, hashPiece, hashTensors } from '@sluice/checkpoint';
import { arithmetic } from '@sluice/engine';
import { savedTensors } from '@sluice/train';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import { Snapshots } from '../../packages/train/src/snapshots.ts';
import type { Trainer } from '../../packages/train/src/trainer.ts';
import { CUDA_KINDS, type CudaKind, cudaRun } from './support/cudaRun.ts';
import { tinyTrainer } from './support/tinyTrainer.ts';
import { startWorkers } from './support/workers.ts';

process.env.SLUICE_CUDA = 'emulated';

type Hash = ReturnType<typeof hashTensors>;
const hashOf = (kind: CudaKind, pieces: readonly HashedPiece[]): Hash =>
  hashTensors(savedTensors(cudaRun(kind)), pieces);
const hashOfTrainer = (kind: CudaKind, trainer: Trainer) => hashOf(kind, trainer.pieces().map(hashPiece));
const takenBytes = () => (tf.memory() as { numBytesInGPU?: number }).numBytesInGPU!;

async function lossesOf(trainer: Trainer, steps: readonly number[]): Promise<number[]> {
  const losses: number[] = [];
  for (const step of steps) losses.push((await trainer.trainStep({ step, learningRate: 0.01 })).loss);
  return losses;
}

const weights = new Map<CudaKind | `${CudaKind} in f32`, Hash>();

for (const kind of CUDA_KINDS) {
  const run = cudaRun(kind);

  test.serial(`${kind}: it takes the steps of native, to bf16`, async (t) => {
    const native = await lossesOf(await tinyTrainer(run), [1, 2, 3]);
    const trainer = await tinyTrainer(run, { backend: 'cuda' });
    t.is(tf.getBackend(), 'cuda');
    t.is(arithmetic(), 'cuda-2-emulated');
    const losses = await lossesOf(trainer, [1, 2, 3]);
    for (const [i, loss] of losses.entries()) {
      t.true(Math.abs(loss / native[i]! - 1) < 2e-3, `step ${i + 1}: ${loss}, and ${native[i]}`);
      t.not(loss, native[i]);
    }
    weights.set(kind, hashOfTrainer(kind, trainer));
  });

  test.serial(
    `${kind}: gone back to and gone on with, it has the same bits, and takes no more memory`,
    async (t) => {
      const trainer = await tinyTrainer(run, { backend: 'cuda' });
      await lossesOf(trainer, [1]);
      const snapshots = new Snapshots();
      snapshots.take(1, trainer);
      await lossesOf(trainer, [2]);
      const [tensors, bytes] = [tf.memory().numTensors, takenBytes()];
      snapshots.restore(1, trainer);
      await lossesOf(trainer, [2, 3]);
      t.deepEqual(hashOfTrainer(kind, trainer), weights.get(kind));
      t.is(tf.memory().numTensors, tensors);
      t.is(takenBytes(), bytes);
    },
  );
}

for (const kind of CUDA_KINDS) {
  test.serial(`${kind}: in single precision, it takes the steps of native`, async (t) => {
    const run = cudaRun(kind, 'f32');
    const native = await lossesOf(await tinyTrainer(run), [1, 2, 3]);
    const trainer = await tinyTrainer(run, { backend: 'cuda' });
    const losses = await lossesOf(trainer, [1, 2, 3]);
    for (const [i, loss] of losses.entries())
      t.true(Math.abs(loss / native[i]! - 1) < 1e-6, `step ${i + 1}: ${loss}, and ${native[i]}`);
    weights.set(`${kind} in f32`, hashOfTrainer(kind, trainer));
  });
}

test.serial(
  'two processes give the bits of one, also where they share experts, by their devices or the host',
  async (t) => {
    const entry = fileURLToPath(new URL('./cudaWorker.ts', import.meta.url));
    const server = await startWorkers(t, entry, 2);
    const trained = async (kind: CudaKind, byHost: boolean, precision?: 'f32') => {
      const answers = await server.callAll<readonly HashedPiece[]>('train', { kind, byHost, precision });
      const expected = weights.get(precision ? `${kind} in f32` : kind);
      t.deepEqual(hashOf(kind, answers.flat()), expected, kind);
    };
    for (const kind of CUDA_KINDS) await trained(kind, false);
    await trained('experts', true);
    for (const kind of CUDA_KINDS) await trained(kind, false, 'f32');
  },
);
