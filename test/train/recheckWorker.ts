/** A process that trains with others, and computes steps again whose gradient one of them may have got wrong. */

import { Communicator, receiveInvitation } from '@sluice/collectives';
import { selectBackend } from '@sluice/engine';
import { topology } from '../../packages/train/src/topology.ts';
import { Trainer } from '../../packages/train/src/trainer.ts';
import { counting, tinyRun } from './support/tinyTrainer.ts';

const communicator = await Communicator.connect(await receiveInvitation());
await selectBackend('native');
let trainer: Trainer;
let step = 0;

/** What one rank is to get wrong. */
export interface Flip {
  readonly rank: number;
  /** Where, as a share of the parameters. */
  readonly place: number;
  readonly bit: number;
  readonly space: number;
  /** In how many passes over the step. */
  readonly passes: number;
}

await communicator.serve({
  begin({ expertParallel }: { expertParallel: number }) {
    const config = tinyRun({ batch: { sequences: 8 }, lanes: 8 });
    trainer = new Trainer(config, topology(communicator, expertParallel), { train: counting(3) });
    trainer.initialize();
    step = 0;
    return {};
  },
  async take({ flip }: { flip?: Flip }) {
    step++;
    let left = flip?.passes ?? 0;
    trainer.tamper =
      flip?.rank !== communicator.rank
        ? undefined
        : ({ space, stage, contribution }) => {
            if (space !== trainer.spaces[flip.space]?.space || left === 0) return;
            const sizes = space.parameters.map(({ spec, offset }) => ({
              offset,
              size: spec.size,
              stage: spec.stage,
            }));
            const total = sizes.reduce((sum, { size }) => sum + size, 0);
            let element = Math.floor(flip.place * total);
            for (const { offset, size, stage: of } of sizes) {
              if (element < size) {
                if (of !== stage) return;
                left--;
                const bits = new Uint32Array(
                  contribution.buffer,
                  contribution.byteOffset,
                  contribution.length,
                );
                bits[offset + element]! ^= 1 << flip.bit;
                return;
              }
              element -= size;
            }
          };
    const { loss, gradientNorm, recheck } = await trainer.trainStep({
      ...{ step, learningRate: 0.001, recheck: 'always' },
    });
    return { loss, gradientNorm, ...recheck };
  },
});
await communicator.close();
