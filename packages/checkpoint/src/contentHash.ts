/** Content hashes of logical tensors and of the whole: the same however the tensors are cut into pieces. */

import { BLOCK_ELEMENTS, combineBlockHashes, invariant, sha256 } from '@sluice/core';
import {
  ADAMW_KINDS,
  type HashedPiece,
  numElements,
  type SavedTensor,
  storedName,
  TENSOR_KINDS,
  type TensorKind,
  tensorsOfKind,
  unpackHashes,
} from './tensors.ts';

export interface ContentHashes {
  /** Over all parameters, sorted by name, with names and shapes. */
  readonly weights: string;
  /** Over the optimizer's moments, and what replicas that train apart have; null where there are none. */
  readonly optimizer: string | null;
  /** Of each logical tensor, by the name under which it is stored. */
  readonly tensors: Readonly<Record<string, string>>;
}

/**
 * Looks for what keeps `pieces` from covering each logical tensor of each kind exactly once.
 * @returns one sentence for each fault; none when all is well
 */
export function coverageFaults(
  tensors: readonly SavedTensor[],
  kinds: readonly TensorKind[],
  pieces: readonly HashedPiece[],
): string[] {
  const faults: string[] = [];
  const grouped = groupPieces(pieces);
  for (const kind of TENSOR_KINDS) {
    for (const tensor of tensorsOfKind(tensors, kinds, kind)) {
      const name = storedName(kind, tensor.name);
      let position = 0;
      for (const { begin, end, hashes } of grouped.get(name) ?? []) {
        if (begin > position) faults.push(`elements [${position}, ${begin}) of ${name} are in no piece`);
        if (begin < position) faults.push(`elements [${begin}, ${position}) of ${name} are in two pieces`);
        const blocks = Math.ceil((end - begin) / BLOCK_ELEMENTS);
        const hashCount = Buffer.byteLength(hashes, 'base64') / 32;
        if (begin >= end || begin % BLOCK_ELEMENTS !== 0 || hashCount !== blocks) {
          faults.push(
            `the piece [${begin}, ${end}) of ${name} does not have one hash for each of its blocks`,
          );
        }
        position = Math.max(position, end);
      }
      const count = numElements(tensor.shape);
      if (position < count) faults.push(`elements [${position}, ${count}) of ${name} are in no piece`);
      if (position > count)
        faults.push(`a piece of ${name} ends at ${position}, beyond its ${count} elements`);
      grouped.delete(name);
    }
  }
  for (const name of grouped.keys()) faults.push(`a piece is of ${name}, which is not among the tensors`);
  return faults;
}

/** Pieces by the stored name of their tensor, each list in order of elements. */
function groupPieces(pieces: readonly HashedPiece[]): Map<string, HashedPiece[]> {
  const grouped = new Map<string, HashedPiece[]>();
  for (const piece of pieces) {
    const name = storedName(piece.kind, piece.tensor);
    const list = grouped.get(name);
    if (list === undefined) grouped.set(name, [piece]);
    else list.push(piece);
  }
  for (const list of grouped.values()) list.sort((a, b) => a.begin - b.begin);
  return grouped;
}

/**
 * The hashes of logical tensors and of the whole from the hashes of all pieces, in any order and however cut.
 * The same numbers come from a run's memory, from its checkpoints, and from any number of workers.
 * @param kinds the kinds that there are pieces of, for tensors that do not say so themselves
 */
export function hashTensors(
  tensors: readonly SavedTensor[],
  pieces: Iterable<HashedPiece>,
  kinds: readonly TensorKind[] = ADAMW_KINDS,
): ContentHashes {
  const all = [...pieces];
  const faults = coverageFaults(tensors, kinds, all);
  invariant(faults.length === 0, faults.join('; '));
  const grouped = groupPieces(all);
  const sorted = [...tensors].sort((a, b) => (a.name < b.name ? -1 : 1));
  const hashes: Record<string, string> = {};
  const lines = Object.fromEntries(TENSOR_KINDS.map((kind) => [kind, [] as string[]])) as Record<
    TensorKind,
    string[]
  >;
  for (const kind of TENSOR_KINDS) {
    for (const tensor of tensorsOfKind(sorted, kinds, kind)) {
      const name = storedName(kind, tensor.name);
      const hash = combineBlockHashes(grouped.get(name)!.flatMap((piece) => unpackHashes(piece.hashes)));
      hashes[name] = hash;
      lines[kind].push(JSON.stringify([name, tensor.shape, hash]));
    }
  }
  const { parameter, ...others } = lines;
  const moments = Object.values(others).flat();
  return {
    weights: sha256(parameter.join('\n')),
    optimizer: moments.length === 0 ? null : sha256(moments.join('\n')),
    tensors: hashes,
  };
}
