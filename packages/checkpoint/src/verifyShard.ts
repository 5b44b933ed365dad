/** Proving that a worker's part of a checkpoint is what was saved: its size, its header, and its blocks one by one. */

import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { BLOCK_ELEMENTS, sha256 } from '@sluice/core';
import type { ManifestFault, ShardRecord } from './manifest.ts';
import { readFully, readHeader } from './safetensorsReader.ts';
import { type HashedPiece, storedName, unpackHashes } from './tensors.ts';

/** One thing that is wrong with a checkpoint. */
export interface CheckpointProblem {
  readonly kind:
    | ManifestFault['kind']
    | 'hash-mismatch'
    | 'file-missing'
    | 'file-unreadable'
    | 'size-mismatch'
    | 'header-damaged'
    | 'block-damaged'
    | 'distrusted';
  /** A sentence with all of what follows. */
  readonly message: string;
  readonly file?: string;
  /** Name under which the damaged tensor is stored. */
  readonly tensor?: string;
  /** First damaged block, counted from the beginning of the logical tensor. */
  readonly block?: number;
}

/** Blocks that are read at a time: 1 MiB. */
export const BLOCKS_PER_READ = 64;

/** Checks one worker's part, with bounded memory. */
export function verifyShard(
  directory: string,
  shard: ShardRecord,
  deep: boolean,
): Promise<CheckpointProblem[]> {
  const { file } = shard;
  return withShard(directory, file, async (handle) => {
    const { size } = await handle.stat();
    if (size !== shard.size) {
      return [{ kind: 'size-mismatch', file, message: `${file} has ${size} bytes instead of ${shard.size}` }];
    }
    const header = await readHeader(handle, size);
    if (typeof header === 'string' || sha256(header) !== shard.headerHash) {
      return [
        { kind: 'header-damaged', file, message: `the header of ${file} is not the one that was saved` },
      ];
    }
    return deep ? await verifyBlocks(handle, shard) : [];
  });
}

/** Checks the blocks of a shard's pieces alone. */
export function verifyShardBlocks(
  directory: string,
  shard: Pick<ShardRecord, 'file' | 'pieces'>,
): Promise<CheckpointProblem[]> {
  return withShard(directory, shard.file, (handle) => verifyBlocks(handle, shard));
}

async function withShard(
  directory: string,
  file: string,
  check: (handle: FileHandle) => Promise<CheckpointProblem[]>,
): Promise<CheckpointProblem[]> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(join(directory, file), 'r');
    return await check(handle);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    if (code === 'ENOENT') return [{ kind: 'file-missing', file, message: `${file} is missing` }];
    return [{ kind: 'file-unreadable', file, message: `${file} cannot be read (${code})` }];
  } finally {
    await handle?.close();
  }
}

async function verifyBlocks(
  handle: FileHandle,
  shard: Pick<ShardRecord, 'file' | 'pieces'>,
): Promise<CheckpointProblem[]> {
  const problems: CheckpointProblem[] = [];
  for (const piece of shard.pieces) {
    const expected = unpackHashes(piece.hashes);
    const found = await hashStoredPiece(handle, piece);
    const damaged = expected.flatMap((hash, i) => (hash === found[i] ? [] : [i]));
    if (damaged.length > 0) problems.push(blockProblem(shard.file, piece, damaged));
  }
  return problems;
}

/** The hashes of a piece's blocks as they are in the file; fewer where the file ends early. */
async function hashStoredPiece(
  handle: FileHandle,
  piece: HashedPiece & { readonly offset: number },
): Promise<string[]> {
  const hashes: string[] = [];
  const stride = BLOCKS_PER_READ * BLOCK_ELEMENTS;
  const buffer = new Uint8Array(4 * Math.min(stride, piece.end - piece.begin));
  for (let start = piece.begin; start < piece.end; start += stride) {
    const bytes = buffer.subarray(0, 4 * Math.min(stride, piece.end - start));
    if (!(await readFully(handle, bytes, piece.offset + 4 * (start - piece.begin)))) return hashes;
    for (let at = 0; at < bytes.length; at += 4 * BLOCK_ELEMENTS) {
      hashes.push(sha256(bytes.subarray(at, at + 4 * BLOCK_ELEMENTS)));
    }
  }
  return hashes;
}

function blockProblem(file: string, piece: HashedPiece, damaged: readonly number[]): CheckpointProblem {
  const tensor = storedName(piece.kind, piece.tensor);
  const block = piece.begin / BLOCK_ELEMENTS + damaged[0]!;
  const more = damaged.length > 1 ? ` and ${damaged.length - 1} more of its blocks` : '';
  const begin = block * BLOCK_ELEMENTS;
  const end = Math.min(begin + BLOCK_ELEMENTS, piece.end);
  const message = `the hash of block ${block} (elements ${begin} to ${end - 1}) of ${tensor}${more} in ${file} does not match`;
  return { kind: 'block-damaged', file, tensor, block, message };
}

/**
 * Hashes what a shard's file really holds, for `hashCheckpoint`.
 * @param handle the shard's file, of the recorded size
 */
export async function rehashShard(handle: FileHandle, shard: ShardRecord): Promise<string[][]> {
  const hashes: string[][] = [];
  for (const piece of shard.pieces) hashes.push(await hashStoredPiece(handle, piece));
  return hashes;
}
