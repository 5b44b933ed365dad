/** A dense model trained on `cuda`, whose kernels an emulator runs: near to `native`, and with the same bits however it is trained. */

import { fileURLToPath } from 'node:url';
import { type HashedPiece, hashPiece, hashTensors, type Piece } from '@sluice/checkpoint';
import { arithmetic, flatMemory } from '@sluice/engine';
import { savedTensors } from '@sluice/train';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import { Snapshots } from '../../packages/train/src/snapshots.ts';
import type { Trainer } from '../../packages/train/src/trainer.ts';
import { cudaRun } from './support/cudaRun.ts';
import { tinyTrainer } from './support/tinyTrainer.ts';
import { startWorkers } from './support/workers.ts';

process.env.SLUICE_CUDA = 'emulated';

const run = cudaRun();
const hashOf = (pieces: readonly HashedPiece[]) => hashTensors(savedTensors(run), pieces);
const hashOfPieces = (pieces: readonly Piece[]) => hashOf(pieces.map(hashPiece));

async function lossesOf(trainer: Trainer, steps: readonly number[]): Promise<number[]> {
  const losses: number[] = [];
  for (const step of steps) losses.push((await trainer.trainStep({ step, learningRate: 0.01 })).loss);
  return losses;
}

let weights: ReturnType<typeof hashOf>;

test.serial('it takes the steps of native, to bf16', async (t) => {
  const native = await lossesOf(await tinyTrainer(run), [1, 2, 3]);
  const trainer = await tinyTrainer(run, { backend: 'cuda' });
  t.is(tf.getBackend(), 'cuda');
  t.is(arithmetic(), 'cuda-1-emulated');
  const losses = await lossesOf(trainer, [1, 2, 3]);
  for (const [i, loss] of losses.entries()) {
    t.true(Math.abs(loss / native[i]! - 1) < 2e-3, `step ${i + 1}: ${loss}, and ${native[i]}`);
    t.not(loss, native[i]);
  }
  weights = hashOfPieces(trainer.pieces());
});

test.serial('gone back to and gone on with, it has the same bits, and leaves no memory taken', async (t) => {
  const trainer = await tinyTrainer(run, { backend: 'cuda' });
  await lossesOf(trainer, [1]);
  const snapshots = new Snapshots();
  snapshots.take(1, trainer);
  await lossesOf(trainer, [2]);
  const tensors = tf.memory().numTensors;
  const taken = (tf.memory() as { numBytesInGPU?: number }).numBytesInGPU!;
  snapshots.restore(1, trainer);
  await lossesOf(trainer, [2, 3]);
  t.deepEqual(hashOfPieces(trainer.pieces()), weights);
  t.is(tf.memory().numTensors, tensors);
  t.is((tf.memory() as { numBytesInGPU?: number }).numBytesInGPU, taken);
  t.false(flatMemory().make(1) instanceof Float32Array);
});

test.serial('two processes give the bits of one', async (t) => {
  const entry = fileURLToPath(new URL('./cudaWorker.ts', import.meta.url));
  const server = await startWorkers(t, entry, 2);
  const answers = await server.callAll<readonly HashedPiece[]>('train', {});
  t.deepEqual(hashOf(answers.flat()), weights);
});
