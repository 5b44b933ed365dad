/** Finds the checkpoint or the model that a path means. */

import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type CheckpointProblem, newestValidCheckpoint } from '@sluice/checkpoint';
import { isHuggingFaceDirectory } from '@sluice/checkpoint/huggingface';
import { SluiceError } from '@sluice/core';
import { checkpointHistory } from './checkpointHistory.ts';
import { readJournal } from './journal.ts';
import { existingRun, type RunDirectory } from './runDirectory.ts';

/** A checkpoint that was passed over, and why. */
export interface RefusedCheckpoint {
  readonly step: number;
  readonly path: string;
  readonly reason: string;
}

/**
 * @param path a checkpoint directory, or a run directory
 * @param onRefused told about each newer checkpoint that was passed over
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_RUN_MISSING, SLUICE_E_NO_CHECKPOINT
 */
export async function locateCheckpoint(
  path: string,
  onRefused: (refused: RefusedCheckpoint) => void,
): Promise<string> {
  // A run has no manifest of its own; a half-written checkpoint neither, and is refused when it is opened.
  const namedAsCheckpoint = existsSync(path) && /[\\/]step-\d+[\\/]*$/.test(resolve(path));
  if (namedAsCheckpoint || existsSync(join(path, 'manifest.json'))) return resolve(path);
  const run = existingRun(path);
  const { checkpoint, refused } = await newestValidCheckpoint(run.path, {
    deep: true,
    distrust: distrustOf(run),
  });
  const reasons = refused.map(describeRefused);
  reasons.forEach(onRefused);
  if (checkpoint) return checkpoint.directory;
  const why = reasons.map(({ step, reason }) => `step ${step}: ${reason}`).join('; ');
  throw new SluiceError(
    'SLUICE_E_NO_CHECKPOINT',
    `${run.path} has no valid checkpoint${why === '' ? '' : ` (${why})`}.`,
    { details: { runDir: run.path, refused: reasons } },
  );
}

/** What the journal has against checkpoints. A model can be used without one that can be read. */
function distrustOf({ journal }: RunDirectory): ReadonlyMap<number, string> {
  try {
    return checkpointHistory(readJournal(journal)).distrust;
  } catch (error) {
    if (error instanceof SluiceError) return new Map();
    throw error;
  }
}

/**
 * The directory of a model's weights.
 * @param path a run directory, for its newest sound checkpoint; a checkpoint directory; or a Hugging Face directory
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_RUN_MISSING, SLUICE_E_NO_CHECKPOINT
 */
export async function locateModel(path: string, log: (line: string) => void): Promise<string> {
  if (isHuggingFaceDirectory(path)) return resolve(path);
  return locateCheckpoint(path, (refused) => log(refusedLine(refused)));
}

export function describeRefused(refused: {
  readonly step: number;
  readonly directory: string;
  readonly problems: readonly CheckpointProblem[];
}): RefusedCheckpoint {
  const reason = refused.problems.map((problem) => problem.message).join('; ');
  return { step: refused.step, path: refused.directory, reason };
}

/** One line about a checkpoint that was passed over. */
export function refusedLine({ step, path, reason }: RefusedCheckpoint): string {
  return `checkpoint of step ${step} is refused: ${reason} (${path})`;
}
