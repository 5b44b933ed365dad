/** One worker's part of a checkpoint: a safetensors file of the pieces that it owns, and the record of it. */

import { basename, join } from 'node:path';
import { type FileOperations, nodeFiles, sha256 } from '@sluice/core';
import type { ShardRecord } from './manifest.ts';
import { writeSafetensors } from './safetensors.ts';
import { checkPiece, numElements, type Piece, packHashes, storedName } from './tensors.ts';

/** Whether a name in a checkpoint's directory is that of a shard. */
export function isShardName(name: string): boolean {
  return /^shard-\d{5,}(\.[\w-]+)?\.safetensors$/.test(name);
}

/** A whole tensor keeps its name and shape; a part of one is a vector with its range in the name. */
function storedPiece({ tensor, kind, begin, end, values }: Piece) {
  const name = storedName(kind, tensor.name);
  const isWhole = begin === 0 && end === numElements(tensor.shape);
  return {
    name: isWhole ? name : `${name}[${begin}:${end}]`,
    dtype: 'F32' as const,
    shape: isWhole ? tensor.shape : [end - begin],
    values,
  };
}

export interface WriteShardOptions {
  /** Part of the file's name that tells groups of workers apart: one that was cut off may still write when another saves anew. */
  readonly writer?: string | undefined;
  readonly files?: FileOperations;
}

/**
 * Writes the pieces that worker `rank` owns into a shard file of its own. Workers may do so at the same time.
 * The values may change again once the promise resolves.
 * @param directory made by `beginCheckpoint`
 * @returns the record that `commitCheckpoint` puts into the manifest; serialisable as JSON
 * @throws SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE, SLUICE_E_FILE_MISSING; then no shard is left behind
 */
export async function writeShard(
  directory: string,
  rank: number,
  pieces: Iterable<Piece>,
  { writer, files = nodeFiles }: WriteShardOptions = {},
): Promise<ShardRecord> {
  const all = [...pieces];
  for (const piece of all) checkPiece(piece);
  const name = [`shard-${String(rank).padStart(5, '0')}`, ...(writer === undefined ? [] : [writer])];
  const path = join(directory, `${name.join('.')}.safetensors`);
  const blockHashes = all.map((): string[] => []);
  const { size, headerHash, offsets } = await writeSafetensors(path, all.map(storedPiece), {
    metadata: { format: 'sluice', rank: String(rank) },
    onBlock: (index, block) => blockHashes[index]!.push(sha256(block)),
    files,
  });
  return {
    file: basename(path),
    size,
    headerHash,
    pieces: all.map(({ tensor, kind, begin, end }, index) => ({
      tensor: tensor.name,
      kind,
      begin,
      end,
      offset: offsets[index]!,
      hashes: packHashes(blockHashes[index]!),
    })),
  };
}
