/** AdamW with decoupled weight decay (Loshchilov & Hutter, 2019) on the pieces of a flat space. */

import { type Floats, flatMemory } from '@sluice/engine';
import type { OptimizerConfig } from './config.ts';
import { type AdamWPiece, joinDoubles, joinPieces } from './pieces.ts';
import type { UpdateRequest } from './settings.ts';

/** Pieces that follow each other in memory and are updated alike: a kernel takes them all at once. */
type Stretch = Pick<
  AdamWPiece,
  'values' | 'isApart' | 'moments' | 'moved' | 'flatOffset' | 'firstBlock' | 'settings'
>;

export class AdamWUpdates {
  readonly #config: OptimizerConfig;
  readonly #stretches: readonly Stretch[];

  constructor(config: OptimizerConfig, pieces: readonly AdamWPiece[]) {
    this.#config = config;
    const { join } = flatMemory();
    const isAlike = ({ settings: one }: Stretch, { settings: other }: Stretch) =>
      one.weightDecay === other.weightDecay &&
      one.rateScale === other.rateScale &&
      (one.group === other.group || config.clip !== 'groups');
    this.#stretches = joinPieces<Stretch>(pieces, isAlike, (first, second) => ({
      ...first,
      values: join(first.values, second.values),
      moved: joinDoubles(first.moved, second.moved),
      moments: {
        firstMoment: join(first.moments.firstMoment, second.moments.firstMoment),
        secondMoment: join(first.moments.secondMoment, second.moments.secondMoment),
      },
    }));
  }

  update(gradients: Floats, { step, learningRate, gradientScales }: UpdateRequest): void {
    const { beta1, beta2, epsilon } = this.#config;
    flatMemory().adamW(
      this.#stretches.map(({ values, moments, moved, flatOffset, settings }) => ({
        buffers: {
          parameters: values,
          gradients: gradients.subarray(flatOffset, flatOffset + values.length),
          ...moments,
        },
        settings: {
          ...{ step, beta1, beta2, epsilon },
          learningRate: learningRate * settings.rateScale,
          weightDecay: settings.weightDecay,
          gradientScale: gradientScales[settings.group],
        },
        sums: moved,
      })),
    );
  }
}
