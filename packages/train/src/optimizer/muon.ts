/** Muon on the whole matrices that a worker owns, by the host's arithmetic. */

import { type Floats, flatMemory, Muon, muonScratchElements } from '@sluice/engine';
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

  update(gradients: Floats, { learningRate, gradientScales }: UpdateRequest): void {
    const { momentum: momentumDecay, iterations } = this.#config;
    for (const { values, moments, flatOffset, settings, matrix, moved } of this.#pieces) {
      const { read, write } = flatMemory();
      const [parameters, momentum] = [read(values), read(moments.momentum)];
      this.#muon.update(
        {
          ...{ parameters, momentum },
          gradients: read(gradients.subarray(flatOffset, flatOffset + values.length)),
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
      write(values, parameters);
      write(moments.momentum, momentum);
    }
  }
}
