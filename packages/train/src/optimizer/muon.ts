/** Muon on the whole matrices that a worker owns. */

import { Muon, muonScratchElements } from '@sluice/engine';
import type { MuonConfig } from './config.ts';
import type { MuonPiece } from './pieces.ts';
import type { UpdateRequest } from './settings.ts';

export class MuonUpdates {
  readonly #config: MuonConfig;
  readonly #pieces: readonly MuonPiece[];
  readonly #muon: Muon;

  constructor(config: MuonConfig, pieces: readonly MuonPiece[]) {
    this.#config = config;
    this.#pieces = pieces;
    this.#muon = new Muon(muonScratchElements(pieces.map(({ matrix }) => matrix)));
  }

  update(gradients: Float32Array, { learningRate, gradientScales }: UpdateRequest): void {
    const { momentum: momentumDecay, iterations } = this.#config;
    for (const { values, moments, flatOffset, settings, matrix, moved } of this.#pieces) {
      this.#muon.update(
        {
          parameters: values,
          gradients: gradients.subarray(flatOffset, flatOffset + values.length),
          momentum: moments.momentum,
        },
        {
          ...matrix,
          ...{ momentumDecay, iterations },
          learningRate: learningRate * settings.rateScale,
          gradientScale: gradientScales[settings.group],
          weightDecay: settings.weightDecay,
        },
        moved,
      );
    }
  }
}
