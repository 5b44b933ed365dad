/** Which of a run's checkpoints to go on from, and which to remove. */

import { dirname } from 'node:path';
import { type FileOperations, invariant, nodeFiles, writeError } from '@sluice/core';
import { type CheckpointEntry, listCheckpoints, removeCheckpointFiles } from './directories.ts';
import type { Manifest } from './manifest.ts';
import { type Verification, type VerifyOptions, verifyCheckpoint } from './verify.ts';
import type { CheckpointProblem } from './verifyShard.ts';

export interface ValidCheckpoint {
  readonly step: number;
  readonly directory: string;
  readonly manifest: Manifest;
}

export interface RefusedCheckpoint {
  readonly step: number;
  readonly directory: string;
  readonly problems: readonly CheckpointProblem[];
}

export interface NewestOptions extends VerifyOptions {
  /** Steps whose checkpoints are refused whatever they hold, with the reason. */
  readonly distrust?: ReadonlyMap<number, string>;
  /** Step after which no checkpoint is looked at. */
  readonly upTo?: number;
}

/**
 * The newest checkpoint of a run that proves itself, and those newer than it that do not, newest first, with reasons.
 * @returns no `checkpoint` when none is valid
 */
export async function newestValidCheckpoint(
  runDirectory: string,
  options: NewestOptions = {},
): Promise<{ checkpoint?: ValidCheckpoint; refused: RefusedCheckpoint[] }> {
  const refused: RefusedCheckpoint[] = [];
  for (const entry of (await listCheckpoints(runDirectory)).reverse()) {
    const { step, directory } = entry;
    if (options.upTo !== undefined && step > options.upTo) continue;
    const distrusted = options.distrust?.get(step);
    if (distrusted !== undefined) {
      refused.push({ step, directory, problems: [{ kind: 'distrusted', message: distrusted }] });
      continue;
    }
    const { valid, problems, manifest } = await verifyEntry(entry, options);
    if (valid) return { checkpoint: { step, directory, manifest: manifest! }, refused };
    refused.push({ step, directory, problems });
  }
  return { refused };
}

/** As `verifyCheckpoint` for one of a run's: the directory's name must be that of the saved step. */
export async function verifyEntry(entry: CheckpointEntry, options: VerifyOptions): Promise<Verification> {
  const verification = await verifyCheckpoint(entry.directory, options);
  const { manifest } = verification;
  if (manifest === undefined || manifest.step === entry.step) return verification;
  const message = `its manifest is of step ${manifest.step}, its directory of step ${entry.step}`;
  const problem: CheckpointProblem = { kind: 'manifest-damaged', message };
  return { valid: false, problems: [...verification.problems, problem], manifest };
}

export interface PruneOptions {
  /** Steps whose checkpoints stay, whatever their age, e.g. one that a roll-back may need. */
  readonly protect?: readonly number[];
  /** Step of the newest checkpoint that counts; what is newer is left alone, and keeps no other one from staying. */
  readonly upTo?: number;
  /** Steps whose checkpoints do not count as whole, whatever they look like. */
  readonly distrust?: ReadonlyMap<number, string>;
  readonly files?: FileOperations;
}

/**
 * Keeps the newest `keep` checkpoints that look whole, and removes older ones, damaged ones that are older than those,
 * and half-written ones that a newer whole one has made useless. What is newer than the newest whole checkpoint may
 * be being written, and is left alone.
 * @returns the directories that were removed
 * @throws SLUICE_E_FILE_UNWRITABLE
 */
export async function pruneCheckpoints(
  runDirectory: string,
  keep: number,
  options: PruneOptions = {},
): Promise<{ removed: string[] }> {
  invariant(Number.isInteger(keep) && keep >= 1, `${keep} checkpoints cannot be kept`);
  const { protect = [], upTo = Number.POSITIVE_INFINITY, distrust, files = nodeFiles } = options;
  const entries = (await listCheckpoints(runDirectory)).filter(({ step }) => step <= upTo);
  const whole: CheckpointEntry[] = [];
  for (const entry of entries) {
    if (distrust?.has(entry.step)) continue;
    if ((await verifyEntry(entry, { deep: false })).valid) whole.push(entry);
  }
  const kept = whole.slice(-keep);
  const newest = kept.at(-1)?.step ?? Number.NEGATIVE_INFINITY;
  const oldest = kept[0]?.step ?? Number.NEGATIVE_INFINITY;
  const removed: string[] = [];
  for (const { step, directory, complete } of entries) {
    if (protect.includes(step) || step >= (complete ? oldest : newest)) continue;
    await removeCheckpoint(directory, files);
    removed.push(directory);
  }
  return { removed };
}

/**
 * Removes a checkpoint, whole or not, its manifest first. Files that saving did not write stay, with their directory.
 * @throws SLUICE_E_FILE_UNWRITABLE
 */
export async function removeCheckpoint(directory: string, files: FileOperations = nodeFiles): Promise<void> {
  try {
    await removeCheckpointFiles(directory, files);
    await files.removeDirectory(directory);
    await files.syncDirectory(dirname(directory));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST' && code !== 'ENOENT') throw writeError(directory, error);
  }
}
