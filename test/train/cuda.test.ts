/** Models trained on `cuda`, whose kernels an emulator runs: near to `native`, and with the same bits however they are trained. */

import { fileURLToPath } from 'node:url';
import { type HashedPiece, hashPiece, hashTensors } from '@sluice/checkpoint';
import { arithmetic, flatMemory, roundToBfloat16, selectBackend } from '@sluice/engine';
import { cudaBackend } from '@sluice/engine/cuda';
import { savedTensors } from '@sluice/train';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import { passBytes } from '../../packages/train/src/plan/memory.ts';
import { Snapshots } from '../../packages/train/src/snapshots.ts';
import type { Trainer } from '../../packages/train/src/trainer.ts';
import { emulator } from '../engine/support/cuda.ts';
import { waitsIn } from '../engine/support/waits.ts';
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

/** Owned pieces that lie apart, and of these the ones that passes do not read as they are trained, rounded. */
function apart(trainer: Trainer): { all: number; otherwise: string[] } {
  const pieces = trainer.spaces.flatMap(({ space }) =>
    space.ownedPieces.filter(({ isApart }) => isApart).map((piece) => ({ space, ...piece })),
  );
  const otherwise = pieces.filter(({ space, spec, tensor, begin, end, values }) => {
    const { parameter } = space.parameters.find((placed) => placed.spec === spec)!;
    const halves = new Uint16Array(end - begin);
    roundToBfloat16(flatMemory().read(values), halves);
    const read = parameter.hostValues.subarray(tensor.offset + begin, tensor.offset + end);
    const bits = new Uint32Array(read.slice().buffer);
    return bits.some((word, i) => word !== halves[i]! * 0x10000);
  });
  return { all: pieces.length, otherwise: otherwise.map(({ tensor }) => tensor.name) };
}

const weights = new Map<CudaKind | `${CudaKind} in f32`, Hash>();

for (const kind of CUDA_KINDS) {
  const run = cudaRun(kind);

  test.serial(`${kind}: it takes the steps of native, to bf16`, async (t) => {
    const native = await lossesOf(await tinyTrainer(run), [1, 2, 3]);
    const trainer = await tinyTrainer(run, { backend: 'cuda' });
    t.true(apart(trainer).all > 0);
    t.deepEqual(apart(trainer).otherwise, []);
    t.is(tf.getBackend(), 'cuda');
    t.is(arithmetic(), 'cuda-4-emulated');
    const losses = await lossesOf(trainer, [1, 2, 3]);
    for (const [i, loss] of losses.entries()) {
      t.true(Math.abs(loss / native[i]! - 1) < 2e-3, `step ${i + 1}: ${loss}, and ${native[i]}`);
      t.not(loss, native[i]);
    }
    weights.set(kind, hashOfTrainer(kind, trainer));
    t.deepEqual(apart(trainer).otherwise, []);
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
      t.deepEqual(apart(trainer).otherwise, []);
      await lossesOf(trainer, [2, 3]);
      t.deepEqual(hashOfTrainer(kind, trainer), weights.get(kind));
      t.is(tf.memory().numTensors, tensors);
      t.is(takenBytes(), bytes);
      snapshots.restart(trainer);
      t.deepEqual(apart(trainer).otherwise, []);
    },
  );
}

for (const kind of CUDA_KINDS) {
  test.serial(`${kind}: in single precision, it takes the steps of native`, async (t) => {
    const run = cudaRun(kind, 'f32');
    const native = await lossesOf(await tinyTrainer(run), [1, 2, 3]);
    const trainer = await tinyTrainer(run, { backend: 'cuda' });
    t.is(apart(trainer).all, 0);
    const losses = await lossesOf(trainer, [1, 2, 3]);
    for (const [i, loss] of losses.entries())
      t.true(Math.abs(loss / native[i]! - 1) < 1e-6, `step ${i + 1}: ${loss}, and ${native[i]}`);
    weights.set(`${kind} in f32`, hashOfTrainer(kind, trainer));
  });
}

test.serial('a step waits for the device as often with three layers as with one', async (t) => {
  for (const kind of CUDA_KINDS) {
    const run = cudaRun(kind);
    const waits = async (numLayers: number) => {
      const trainer = await tinyTrainer({ ...run, model: { ...run.model, numLayers } }, { backend: 'cuda' });
      const { driver } = cudaBackend().device;
      return waitsIn(driver, () => lossesOf(trainer, [1]));
    };
    t.is(await waits(3), await waits(1), kind);
  }
});

test.serial(
  'partial sums of gradients that the device has no room for lie on the host, with the same bits',
  async (t) => {
    await selectBackend('cuda');
    const { device } = cudaBackend();
    for (const kind of CUDA_KINDS) {
      const run = cudaRun(kind);
      const trained = async (gradientMiB?: number) => {
        // Sums that are rounded before they are added have their order, too.
        const gradients = kind === 'dense' ? 'bfloat16' : 'float32';
        const parallel = { ...run.parallel, lanes: 4, gradients, gradientMiB } as const;
        const config = { ...run, parallel };
        const trainer = await tinyTrainer(config, { backend: 'cuda' });
        const [before, onDevice] = [device.hostBytes, takenBytes()];
        await lossesOf(trainer, [1, 2]);
        const elements = trainer.spaces.reduce((sum, { space }) => sum + space.length, 0);
        const taken = { onHost: device.hostBytes - before, onDevice: takenBytes() - onDevice };
        return { hash: hashOfTrainer(kind, trainer), level: 4 * elements, ...taken };
      };
      const roomy = await trained();
      t.is(roomy.onHost, 0);
      // Of three levels, two on the host.
      const narrow = await trained(0);
      t.deepEqual(narrow.hash, roomy.hash);
      t.is(narrow.onHost, 2 * narrow.level);
      t.true(roomy.onDevice - narrow.onDevice >= 1.9 * narrow.level);
      // A device that has no more than this process took, of which a plan leaves room for one and a half.
      emulator.set({ memoryBytes: device.arena.statistics().allocatedBytes });
      const left = flatMemory().bytesLeft!() - passBytes(run) - 1.5 * roomy.level;
      const ballast = device.allocate(Math.floor(left / 4), 'f32');
      const planned = await trained();
      device.free(ballast);
      emulator.set({});
      t.deepEqual(planned.hash, roomy.hash);
      t.true(planned.onHost > 0);
    }
  },
);

test.serial(
  'two processes give the bits of one, also where they share experts, by their devices or the host',
  async (t) => {
    const entry = fileURLToPath(new URL('./cudaWorker.ts', import.meta.url));
    const server = await startWorkers(t, entry, 2);
    const trained = async (kind: CudaKind, byHost: boolean, precision?: 'f32', gradientMiB?: number) => {
      const request = { kind, byHost, precision, gradientMiB };
      const answers = await server.callAll<readonly HashedPiece[]>('train', request);
      const expected = weights.get(precision ? `${kind} in f32` : kind);
      t.deepEqual(hashOf(kind, answers.flat()), expected, kind);
      const [first, second] = await server.callAll<string>('replicated', {});
      t.is(first, second);
    };
    for (const kind of CUDA_KINDS) await trained(kind, false);
    await trained('experts', true);
    for (const kind of CUDA_KINDS) await trained(kind, false, 'f32');
    // Rows of experts from two workers, whose gradients are apart.
    const [first] = await server.callAll<number>('hostBytes', {});
    t.is(first, 0);
    await trained('experts', false, undefined, 0);
    t.true((await server.callAll<number>('hostBytes', {})).every((bytes) => bytes > 0));
  },
);
