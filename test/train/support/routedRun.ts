/** A tiny run whose tokens all go where a test wants them, whatever the router says. */

import { changeOnHost } from '@sluice/engine';
import { balanceBiasName } from '@sluice/model';
import type { RunConfig } from '@sluice/train';
import type { Trainer } from '../../../packages/train/src/trainer.ts';
import { tinyRun } from './tinyTrainer.ts';

/** Experts that get no token, of four; none for what the router itself wants. */
export type Routing = readonly number[];

/** So much less is no expert's score. */
const NEVER = -1e6;

export function routedRun(): RunConfig {
  return tinyRun({
    model: {
      experts: {
        count: 4,
        topK: 1,
        intermediateSize: 12,
        sharedIntermediateSize: 8,
        balanceBias: { rate: 1e-3 },
      },
    },
    batch: { sequences: 8 },
    lanes: 4,
  });
}

/** Has the routers' choice leave experts out. */
export function sendTo({ spaces }: Trainer, shunned: Routing): void {
  const parameters = spaces.flatMap(({ space }) => space.parameters);
  for (const layer of [0, 1]) {
    const bias = parameters.find(({ spec }) => spec.name === balanceBiasName(layer))!.parameter;
    changeOnHost(bias.values, (values) => {
      for (const expert of shunned) values[expert] = NEVER;
    });
    bias.refresh();
  }
}
