/** A process that trains with others on `cuda`. */

import { hashPiece } from '@sluice/checkpoint';
import { Communicator, receiveInvitation } from '@sluice/collectives';
import { cudaRun } from './support/cudaRun.ts';
import { tinyTrainer } from './support/tinyTrainer.ts';

const communicator = await Communicator.connect(await receiveInvitation());

await communicator.serve({
  async train() {
    const trainer = await tinyTrainer(cudaRun(), { backend: 'cuda', workers: communicator });
    for (const step of [1, 2, 3]) await trainer.trainStep({ step, learningRate: 0.01 });
    return trainer.pieces().map(hashPiece);
  },
});
await communicator.close();
