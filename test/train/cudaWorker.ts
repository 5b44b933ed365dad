/** A process that trains with others on `cuda`, and shares experts with them where there are any. */

import { createHash } from 'node:crypto';
import { hashPiece } from '@sluice/checkpoint';
import { Communicator, receiveInvitation } from '@sluice/collectives';
import type { Precision } from '@sluice/engine';
import { cudaBackend } from '@sluice/engine/cuda';
import type { Trainer } from '../../packages/train/src/trainer.ts';
import { type CudaKind, cudaRun } from './support/cudaRun.ts';
import { tinyTrainer } from './support/tinyTrainer.ts';

interface TrainRequest {
  readonly kind: CudaKind;
  readonly byHost: boolean;
  readonly precision?: Precision;
  readonly gradientMiB?: number;
}

/** The last one. */
let trained: Trainer | undefined;

const communicator = await Communicator.connect(await receiveInvitation());

await communicator.serve({
  /** @param byHost whether what is exchanged goes by way of the host */
  async train({ kind, byHost, precision, gradientMiB }: TrainRequest) {
    const { rank, size, world, blocked } = communicator;
    const group = (ranks: readonly number[]) => communicator.group(ranks);
    const workers = byHost ? { rank, size, world, blocked, group, progress: () => {} } : communicator;
    const sharing = { workers, expertParallel: kind === 'experts' ? size : 1 };
    const run = cudaRun(kind, precision);
    const config = { ...run, parallel: { ...run.parallel, gradientMiB } };
    const trainer = await tinyTrainer(config, { backend: 'cuda', ...sharing });
    for (const step of [1, 2, 3]) await trainer.trainStep({ step, learningRate: 0.01 });
    trained = trainer;
    return trainer.pieces().map(hashPiece);
  },
  /** A hash of what all workers hold, as passes read it. */
  async replicated() {
    const hash = createHash('sha256');
    const [{ space }] = trained!.spaces as [Trainer['spaces'][number]];
    for (const { parameter } of space.parameters) hash.update(parameter.hostValues);
    return hash.digest('hex');
  },
  /** Memory of the host that the device reaches. */
  async hostBytes() {
    return cudaBackend().device.hostBytes;
  },
});
await communicator.close();
