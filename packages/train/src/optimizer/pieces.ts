/** What a worker optimizes: the pieces that it owns, with views of everything that an update touches. */

import { BLOCK_ELEMENTS } from '@sluice/core';
import { changeOnHost, type Floats } from '@sluice/engine';
import type { OwnedValues } from '../flatSpace.ts';
import type { MatrixSize, TensorSettings } from './settings.ts';

/** By the kinds that a checkpoint calls them. */
export interface AdamWMoments {
  readonly firstMoment: Floats;
  readonly secondMoment: Floats;
}

export interface MuonMoments {
  readonly momentum: Floats;
}

interface Updated extends OwnedValues {
  readonly settings: TensorSettings;
  /** Number of its first block in the whole model. */
  readonly firstBlock: number;
  /** Of the last update, for each block: squares of how far its elements moved, and of what they were before. */
  readonly moved: Float64Array;
}

export interface AdamWPiece extends Updated {
  readonly moments: AdamWMoments;
  readonly matrix?: undefined;
}

/** A whole matrix. */
export interface MuonPiece extends Updated {
  readonly moments: MuonMoments;
  readonly matrix: MatrixSize;
}

export type OptimizedPiece = AdamWPiece | MuonPiece;

export function isMuonPiece(piece: OptimizedPiece): piece is MuonPiece {
  return piece.matrix !== undefined;
}

/** Joins neighbours of a list that follow each other in memory and in the numbers of their blocks, and are alike. */
export function joinPieces<
  Piece extends Pick<OptimizedPiece, 'flatOffset' | 'firstBlock' | 'values' | 'isApart'>,
>(
  pieces: readonly Piece[],
  isAlike: (last: Piece, next: Piece) => boolean,
  join: (last: Piece, next: Piece) => Piece,
): Piece[] {
  const joined: Piece[] = [];
  for (const piece of pieces) {
    const last = joined.at(-1);
    const follows =
      last &&
      last.isApart === piece.isApart &&
      last.flatOffset + last.values.length === piece.flatOffset &&
      last.firstBlock + last.values.length / BLOCK_ELEMENTS === piece.firstBlock;
    if (follows && isAlike(last, piece)) joined[joined.length - 1] = join(last, piece);
    else joined.push(piece);
  }
  return joined;
}

/** One view of two that follow each other in one buffer. */
export function joinDoubles(first: Float64Array, second: Float64Array): Float64Array {
  return new Float64Array(first.buffer, first.byteOffset, first.length + second.length);
}

/** Multiplies the rows of a matrix that a piece has, each by a factor of its own. */
export function scaleRows(
  { values, tensor, begin, end }: OptimizedPiece,
  factorOf: (row: number) => number,
): void {
  const columns = tensor.shape[1]!;
  changeOnHost(values, (elements) => {
    // Pieces are cut between blocks, which rows may cross.
    for (let i = begin; i < end; ) {
      const row = Math.floor(i / columns);
      const next = Math.min(end, (row + 1) * columns);
      const factor = factorOf(row);
      if (factor !== 1) for (let j = i - begin; j < next - begin; j++) elements[j] = elements[j]! * factor;
      i = next;
    }
  });
}
