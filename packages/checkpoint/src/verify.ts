/** Proving that a checkpoint's files are those that were saved, or saying exactly which are not. */

import { isDeepStrictEqual } from 'node:util';
import { inParallel } from '@sluice/core';
import { hashTensors } from './contentHash.ts';
import { loadManifest, type Manifest, ManifestFault } from './manifest.ts';
import { type CheckpointProblem, verifyShard } from './verifyShard.ts';
import { verifyPieces } from './verifyThreads.ts';

export interface Verification {
  readonly valid: boolean;
  readonly problems: readonly CheckpointProblem[];
  /** There unless the manifest itself cannot be used. */
  readonly manifest?: Manifest;
}

export interface VerifyOptions {
  /** Whether all content is read and hashed (the default), or only sizes and headers are looked at. */
  readonly deep?: boolean;
}

/** Shards whose sizes and headers are looked at at the same time. */
const SHARDS_AT_ONCE = 8;

/** Checks a checkpoint with bounded memory. Does not throw for what is wrong with it. */
export async function verifyCheckpoint(
  directory: string,
  options: VerifyOptions = {},
): Promise<Verification> {
  let manifest: Manifest;
  try {
    manifest = await loadManifest(directory);
  } catch (error) {
    if (!(error instanceof ManifestFault)) throw error;
    return { valid: false, problems: [{ kind: error.kind, message: error.message }] };
  }
  const problems = await verifyContent(directory, manifest, options);
  return { valid: problems.length === 0, problems, manifest };
}

/** As `verifyCheckpoint`, once the manifest has been read. */
export async function verifyContent(
  directory: string,
  manifest: Manifest,
  options: VerifyOptions,
): Promise<CheckpointProblem[]> {
  const { deep = true } = options;
  const { tensors, shards, kinds } = manifest;
  const pieces = shards.flatMap((shard) => shard.pieces);
  const isWhole = isDeepStrictEqual(hashTensors(tensors, pieces, kinds), manifest.hashes);
  const problems = await inParallel(shards, SHARDS_AT_ONCE, (shard) => verifyShard(directory, shard, false));
  if (deep) {
    const sound = shards.map((shard, i) => (problems[i]!.length === 0 ? shard : { ...shard, pieces: [] }));
    for (const [i, found] of (await verifyPieces(directory, sound)).entries()) problems[i]!.push(...found);
  }
  return [
    ...(isWhole
      ? []
      : [{ kind: 'hash-mismatch' as const, message: 'the hash of the whole is not that of its blocks' }]),
    ...problems.flat(),
  ];
}
