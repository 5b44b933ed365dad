/** A process that trains with others, its tokens sent to the experts that it is told. */

import { hashPiece } from '@sluice/checkpoint';
import { Communicator, receiveInvitation } from '@sluice/collectives';
import { selectBackend } from '@sluice/engine';
import { topology } from '../../packages/train/src/topology.ts';
import { Trainer } from '../../packages/train/src/trainer.ts';
import { registerApartBackend } from '../engine/support/apartMemory.ts';
import { type Routing, routedRun, sendTo } from './support/routedRun.ts';
import { counting } from './support/tinyTrainer.ts';

interface Request {
  readonly routing: Routing;
  readonly expertParallel: number;
  readonly backend?: string;
}

const communicator = await Communicator.connect(await receiveInvitation());
registerApartBackend();

await communicator.serve({
  async train({ routing, expertParallel, backend = 'native' }: Request) {
    await selectBackend(backend);
    const trainer = new Trainer(routedRun(), topology(communicator, expertParallel), { train: counting(3) });
    trainer.initialize();
    sendTo(trainer, routing);
    const losses: number[] = [];
    let loads: unknown;
    for (const step of [1, 2]) {
      const result = await trainer.trainStep({ step, learningRate: 0.01 });
      losses.push(result.loss);
      loads = result.expertLoad;
    }
    return { losses, loads, pieces: trainer.pieces().map(hashPiece) };
  },
});
await communicator.close();
