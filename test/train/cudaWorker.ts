/** A process that trains with others on `cuda`, and shares experts with them where there are any. */

import { hashPiece } from '@sluice/checkpoint';
import { Communicator, receiveInvitation } from '@sluice/collectives';
import { type CudaKind, cudaRun } from './support/cudaRun.ts';
import { tinyTrainer } from './support/tinyTrainer.ts';

const communicator = await Communicator.connect(await receiveInvitation());

await communicator.serve({
  async train({ kind }: { kind: CudaKind }) {
    const sharing = { workers: communicator, expertParallel: kind === 'experts' ? communicator.size : 1 };
    const trainer = await tinyTrainer(cudaRun(kind), { backend: 'cuda', ...sharing });
    for (const step of [1, 2, 3]) await trainer.trainStep({ step, learningRate: 0.01 });
    return trainer.pieces().map(hashPiece);
  },
});
await communicator.close();
