/**
 * Saving a checkpoint, in three acts: the coordinator makes the directory (`beginCheckpoint`), every worker writes its
 * shard (`writeShard`), and the coordinator writes the manifest (`commitCheckpoint`). Only the last makes it a
 * checkpoint, and what it has promised survives a power cut.
 */

import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  type FileOperations,
  fileError,
  invariant,
  nodeFiles,
  SluiceError,
  writeFileAtomic,
} from '@sluice/core';
import { hashTensors } from './contentHash.ts';
import { checkpointDirectory, isOurs, namesIn, removeCheckpointFiles } from './directories.ts';
import { encodeManifest, MANIFEST_NAME, type Manifest, readManifest, type ShardRecord } from './manifest.ts';
import { ADAMW_KINDS, type SavedTensor, type TensorKind } from './tensors.ts';

/**
 * Makes an empty directory for a run's checkpoint. One that is there, from a save that did not end or from a time
 * before a roll-back, is emptied, its manifest first.
 * @returns the directory
 * @throws SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL, SLUICE_E_FILE_MISSING
 */
export async function beginCheckpoint(
  runDirectory: string,
  step: number,
  files: FileOperations = nodeFiles,
): Promise<string> {
  const directory = checkpointDirectory(runDirectory, step);
  await prepareDirectory(directory, files);
  return directory;
}

/** As `beginCheckpoint`, for a checkpoint that belongs to no run. Files that saving did not write are left alone. */
export async function prepareDirectory(directory: string, files: FileOperations = nodeFiles): Promise<void> {
  try {
    await files.makeDirectory(directory);
    await removeCheckpointFiles(directory, files);
    await files.syncDirectory(dirname(directory));
    await files.syncDirectory(dirname(dirname(directory)));
  } catch (error) {
    throw fileError(directory, error);
  }
}

export interface CommitRequest {
  /** Where the workers wrote their shards. */
  readonly directory: string;
  /** Optimizer steps taken. */
  readonly step: number;
  /** All logical tensors of the model. */
  readonly tensors: readonly SavedTensor[];
  /** What is saved of each tensor that does not say so itself; by default parameters and AdamW’s moments. */
  readonly kinds?: readonly TensorKind[];
  /** What `writeShard` returned on each worker. */
  readonly shards: readonly ShardRecord[];
  readonly config: unknown;
  readonly configHash: string;
  /** State that all workers share; plain JSON, without numbers that JSON lacks. */
  readonly state: Readonly<Record<string, unknown>>;
  /** Probe batch and its loss, to be recomputed when the checkpoint is loaded; plain JSON. */
  readonly probe: Readonly<Record<string, unknown>>;
}

/**
 * Turns written shards into a checkpoint. That the pieces cover each tensor of each kind exactly once is an invariant.
 * @throws SLUICE_E_CHECKPOINT_INCOMPLETE when a shard is not to be seen from here; SLUICE_E_DISK_FULL,
 *   SLUICE_E_FILE_UNWRITABLE, SLUICE_E_FILE_MISSING when the directory is gone. Then it holds no checkpoint.
 */
export async function commitCheckpoint(
  request: CommitRequest,
  files: FileOperations = nodeFiles,
): Promise<Manifest> {
  const { directory, shards } = request;
  const text = manifestText(request);
  invariant(new Set(shards.map((shard) => shard.file)).size === shards.length, 'two workers wrote one shard');
  for (const shard of shards) await checkShard(directory, shard);
  const path = join(directory, MANIFEST_NAME);
  try {
    await removeStrays(directory, shards, files);
    // The names of the shards must last before the manifest that speaks of them can.
    await files.syncDirectory(directory);
    await writeFileAtomic(path, text, files);
  } catch (error) {
    throw fileError(path, error);
  }
  return readManifest(directory);
}

/** The manifest of written shards, wherever they lie. */
export function manifestText({
  step,
  tensors,
  kinds = ADAMW_KINDS,
  shards,
  config,
  configHash,
  state,
  probe,
}: Omit<CommitRequest, 'directory'>): string {
  const pieces = shards.flatMap((shard) => shard.pieces);
  const hashes = hashTensors(tensors, pieces, kinds);
  for (const [name, value] of Object.entries({ config, state, probe })) checkJson(value, name);
  return encodeManifest({
    step,
    configHash,
    config: config as Manifest['config'],
    state: state as Manifest['state'],
    probe: probe as Manifest['probe'],
    kinds: [...kinds],
    tensors: tensors.map(({ name, shape, kinds }) => ({
      ...{ name, shape: [...shape], dtype: 'f32' as const },
      ...(kinds && { kinds: [...kinds] }),
    })),
    hashes: { ...hashes, tensors: { ...hashes.tensors } },
    shards: [...shards],
  });
}

/** Workers on another machine write to the same directory only if it is shared. */
async function checkShard(directory: string, shard: ShardRecord): Promise<void> {
  const path = join(directory, shard.file);
  const size = await stat(path).then(
    (stats) => stats.size,
    () => undefined,
  );
  if (size === shard.size) return;
  const found = size === undefined ? 'is not to be seen' : `has ${size} bytes`;
  throw new SluiceError(
    'SLUICE_E_CHECKPOINT_INCOMPLETE',
    `The shard ${path}, which a worker wrote with ${shard.size} bytes, ${found} from the coordinator. Is the run directory shared by all machines?`,
    { details: { path, expected: shard.size, found: size ?? null } },
  );
}

/** Removes shards of an earlier, wider save, and what writers that died have left. */
async function removeStrays(
  directory: string,
  shards: readonly ShardRecord[],
  files: FileOperations,
): Promise<void> {
  const wanted = new Set([MANIFEST_NAME, ...shards.map((shard) => shard.file)]);
  for (const name of await namesIn(directory)) {
    if (isOurs(name) && !wanted.has(name)) await files.unlink(join(directory, name));
  }
}

/** Saved state must come back as it was; JSON would silently turn a NaN into null and a typed array into an object. */
function checkJson(value: unknown, path: string): void {
  if (value === null || ['string', 'boolean', 'undefined'].includes(typeof value)) return;
  if (typeof value === 'number') {
    invariant(Number.isFinite(value), `${path} is ${value}, which JSON cannot hold`);
    return;
  }
  const prototype = typeof value === 'object' ? Object.getPrototypeOf(value) : undefined;
  invariant(
    Array.isArray(value) || prototype === Object.prototype || prototype === null,
    `${path} is no plain JSON value`,
  );
  for (const [key, item] of Object.entries(value as object)) checkJson(item, `${path}.${key}`);
}
