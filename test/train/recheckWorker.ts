/** A process that trains with others, and computes steps again whose gradient one of them may have got wrong. */

import { Communicator, receiveInvitation } from '@sluice/collectives';
import { hostArray, selectBackend } from '@sluice/engine';
import type { Contribution } from '../../packages/train/src/gradientPasses.ts';
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
  /** In which parameter, as a share of their number; its later digits tell where in it. */
  readonly place: number;
  readonly bit: number;
  readonly space: number;
  /** In how many passes over the step. */
  readonly passes: number;
}

/** Flips the bit of an element that is not nothing: what a flip makes of zero may be lost in the sum. */
function flipper({ place, bit, space: index, passes }: Flip): (part: Contribution) => void {
  let left = passes;
  const { parameters } = trainer.spaces[index]!.space;
  const chosen = parameters[Math.floor(place * parameters.length)]!;
  return ({ space, stage, ...part }) => {
    const contribution = hostArray(part.contribution);
    if (space !== trainer.spaces[index]!.space || stage !== chosen.spec.stage || left === 0) return;
    left--;
    const end = chosen.offset + chosen.spec.size;
    let element = chosen.offset + Math.floor(((place * 1e4) % 1) * chosen.spec.size);
    while (contribution[element] === 0) element = element + 1 < end ? element + 1 : chosen.offset;
    const { buffer, byteOffset, length } = contribution;
    new Uint32Array(buffer, byteOffset, length)[element]! ^= 1 << bit;
  };
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
    trainer.tamper = flip?.rank === communicator.rank ? flipper(flip) : undefined;
    const { loss, gradientNorm, recheck } = await trainer.trainStep({
      ...{ step, learningRate: 0.001, recheck: 'always' },
    });
    return { loss, gradientNorm, ...recheck };
  },
});
await communicator.close();
