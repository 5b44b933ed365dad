/**
 * Weight decay of gates whose rows are interleaved with the queries, where it is not that of their matrix: before an update that
 * multiplies all rows by 1 − η·λ, the gate's are multiplied by (1 − η·λ_gate)/(1 − η·λ).
 */

import { headRows, type ModelConfig } from '@sluice/model';
import type { OptimizerConfig } from './config.ts';
import { type OptimizedPiece, scaleRows } from './pieces.ts';

export class GateDecay {
  readonly #decay: number;
  /** For each row of a projection of queries, whether it is one of a gate, by the tensors' names. */
  readonly #isGate: ReadonlyMap<string, Uint8Array>;

  constructor(decay: number, model: ModelConfig) {
    this.#decay = decay;
    const queries = [...headRows(model)].filter(([, { projection }]) => projection === 'query');
    this.#isGate = new Map(
      queries.map(([name, { heads }]) => [name, Uint8Array.from(heads, (head) => (head < 0 ? 1 : 0))]),
    );
  }

  /** Undefined where gates have the decay of their groups. */
  static of({ gateWeightDecay }: OptimizerConfig, model: ModelConfig): GateDecay | undefined {
    return gateWeightDecay === undefined ? undefined : new GateDecay(gateWeightDecay, model);
  }

  /** Call before the update, when nobody sends or receives the values any more. @param learningRate of the schedule */
  apply(pieces: Iterable<OptimizedPiece>, learningRate: number): void {
    for (const piece of pieces) {
      const isGate = this.#isGate.get(piece.tensor.name);
      const { rateScale, weightDecay } = piece.settings;
      const rate = learningRate * rateScale;
      const factor = (1 - rate * this.#decay) / (1 - rate * weightDecay);
      if (isGate && factor !== 1) scaleRows(piece, (row) => (isGate[row] ? factor : 1));
    }
  }
}
