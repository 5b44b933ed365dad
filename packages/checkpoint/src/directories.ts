/** Where checkpoints lie: `<run>/checkpoints/step-00001200/`, and which files in there are ours to remove. */

import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type FileOperations, TEMPORARY_PREFIX, writeError } from '@sluice/core';
import { MANIFEST_NAME } from './manifest.ts';
import { isShardName } from './shard.ts';

/** A directory in the place of a checkpoint. */
export interface CheckpointEntry {
  readonly step: number;
  readonly directory: string;
  /** Whether it has a manifest: without one, saving did not come to its end. */
  readonly complete: boolean;
}

/** The directory of a run's checkpoint after `step` optimizer steps. */
export function checkpointDirectory(runDirectory: string, step: number): string {
  return join(runDirectory, 'checkpoints', `step-${String(step).padStart(8, '0')}`);
}

/** The step that a checkpoint's directory is named for; undefined for any other directory. */
function stepOf(directory: string): number | undefined {
  const digits = /^step-(\d{8,})$/.exec(basename(directory))?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** Names in a directory; none when there is no such directory. */
export async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw error;
  }
}

/** Whether a file was written by saving; only such files are ever removed. */
export function isOurs(name: string): boolean {
  return name === MANIFEST_NAME || isShardName(name) || name.startsWith(TEMPORARY_PREFIX);
}

/** A run's checkpoints in order of steps, whole or not; none when the run has none. */
export async function listCheckpoints(runDirectory: string): Promise<CheckpointEntry[]> {
  const root = dirname(checkpointDirectory(runDirectory, 0));
  const entries: CheckpointEntry[] = [];
  for (const name of await namesIn(root)) {
    const step = stepOf(name);
    if (step === undefined) continue;
    const directory = join(root, name);
    const names = await namesIn(directory);
    if (names.length === 0 || names.some(isOurs)) {
      entries.push({ step, directory, complete: names.includes(MANIFEST_NAME) });
    }
  }
  return entries.sort((a, b) => a.step - b.step);
}

/**
 * Removes what saving wrote into a directory. The manifest goes first and for good, so that at no moment does it
 * stand for files that are gone.
 */
export async function removeCheckpointFiles(directory: string, files: FileOperations): Promise<void> {
  const names = await namesIn(directory);
  const remove = async (name: string) => {
    try {
      await files.unlink(join(directory, name));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw writeError(join(directory, name), error);
    }
  };
  if (names.includes(MANIFEST_NAME)) {
    await remove(MANIFEST_NAME);
    await files.syncDirectory(directory);
  }
  for (const name of names) if (isOurs(name) && name !== MANIFEST_NAME) await remove(name);
}
