/** States of the last steps, held in memory by those who own their parts, to go back to within moments. */

import { copyInto } from '@sluice/engine/memory';
import { HELD_SNAPSHOTS } from './rollback.ts';
import type { Trainer } from './trainer.ts';
import { beginAnew, restoreState, trainerPieces, trainerState, writePieces } from './trainerState.ts';

interface Snapshot {
  readonly step: number;
  /** Values of `trainerPieces`, in their order. */
  readonly pieces: readonly Float32Array[];
  readonly state: Readonly<Record<string, unknown>>;
}

export class Snapshots {
  /** Oldest first. */
  #held: Snapshot[] = [];

  take(step: number, trainer: Trainer): void {
    const pieces = trainerPieces(trainer);
    const isFull = this.#held.length >= HELD_SNAPSHOTS;
    const memory = isFull
      ? this.#held.shift()!.pieces
      : pieces.map(({ values }) => new Float32Array(values.length));
    pieces.forEach(({ values }, i) => {
      copyInto(memory[i]!, values);
    });
    this.#held.push({ step, pieces: memory, state: trainerState(trainer) });
  }

  /** Takes a trainer back; what is held of later steps is of a future that is given up. All workers do it together. */
  restore(step: number, trainer: Trainer): void {
    this.forgetAfter(step);
    const { pieces, state } = this.#held.find((snapshot) => snapshot.step === step)!;
    for (const { optimizer } of trainer.spaces) optimizer.settle();
    writePieces(trainer, pieces);
    for (const { optimizer } of trainer.spaces) optimizer.share();
    restoreState(trainer, state);
  }

  /** Takes a trainer back to the weights and moments that a new one begins with. */
  restart(trainer: Trainer): void {
    this.forgetAfter(0);
    beginAnew(trainer);
  }

  forgetAfter(step: number): void {
    this.#held = this.#held.filter((snapshot) => snapshot.step <= step);
  }
}
