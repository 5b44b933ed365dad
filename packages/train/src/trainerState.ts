/** A trainer's state as the pieces and the JSON of a checkpoint, and back. */

import type { CheckpointReader, Piece } from '@sluice/checkpoint';
import type { TakenStep } from './protocol.ts';
import type { Trainer } from './trainer.ts';
import { readWeights } from './weights.ts';

/** State that is the same on all workers. */
export interface TrainerState {
  /** Share of the routed tokens of each expert in the last step, layer by layer. */
  readonly expertLoads: readonly (readonly number[])[];
  /** The last step; null where there was none, or its update was not applied. */
  readonly taken: TakenStep | null;
}

/** Everything that this worker owns: values and both moments. Views, valid until the next step. */
export function trainerPieces({ spaces }: Trainer): Piece[] {
  return spaces.flatMap(({ optimizer }) =>
    optimizer.pieces.flatMap(({ tensor, begin, end, values, firstMoment, secondMoment }): Piece[] => [
      { tensor, kind: 'parameter', begin, end, values },
      { tensor, kind: 'firstMoment', begin, end, values: firstMoment },
      { tensor, kind: 'secondMoment', begin, end, values: secondMoment },
    ]),
  );
}

/** Names of the pieces that hold a number that is not finite; of a parameter its own, of moments with their kind. */
export function nonFinitePieces(trainer: Trainer): string[] {
  const found = trainerPieces(trainer).filter(({ values }) => !allFinite(values));
  return found.map(({ tensor, kind }) => (kind === 'parameter' ? tensor.name : `${tensor.name} (${kind})`));
}

/** Times zero, every finite number is nothing, and any other is NaN ever after: no branch for each of millions. */
function allFinite(values: Float32Array): boolean {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! * 0;
  return sum === 0;
}

export function trainerState({ expertLoads, taken }: Trainer): Readonly<Record<string, unknown>> {
  const state: TrainerState = {
    expertLoads: expertLoads.map((loads) => [...loads]),
    taken: taken ?? null,
  };
  return { ...state };
}

/** Reads whatever this worker holds, however many workers saved it. */
export async function loadTrainer(trainer: Trainer, reader: CheckpointReader): Promise<void> {
  await readWeights(trainer, ({ name, size }, target) =>
    reader.readRange('parameter', name, 0, size, target),
  );
  for (const { optimizer } of trainer.spaces) {
    for (const { tensor, begin, end, firstMoment, secondMoment } of optimizer.pieces) {
      await reader.readRange('firstMoment', tensor.name, begin, end, firstMoment);
      await reader.readRange('secondMoment', tensor.name, begin, end, secondMoment);
    }
  }
  restoreState(trainer, reader.manifest.state.worker as Readonly<Record<string, unknown>>);
}

/** @param state as `trainerState` gave it */
export function restoreState(trainer: Trainer, state: Readonly<Record<string, unknown>>): void {
  const { expertLoads, taken } = state as unknown as TrainerState;
  trainer.expertLoads = expertLoads.map((loads) => Float32Array.from(loads));
  trainer.taken = taken ?? undefined;
}

/** Takes a trainer back to what a new one begins with. */
export function beginAnew(trainer: Trainer): void {
  for (const { values } of trainerPieces(trainer)) values.fill(0);
  trainer.initialize();
  for (const { parameter } of trainer.spaces.flatMap(({ space }) => space.parameters)) parameter.refresh();
}
