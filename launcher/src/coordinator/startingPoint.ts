/** Where a run goes on from: its newest sound checkpoint, with what was saved in it. */

import { newestValidCheckpoint, type RefusedCheckpoint } from '@sluice/checkpoint';
import { TokenizerRecord } from '@sluice/checkpoint/huggingface';
import { parseConfig } from '@sluice/core';
import { RunConfig } from '@sluice/train';
import type { CheckpointHistory } from '../run/checkpointHistory.ts';
import type { RunDirectory } from '../run/runDirectory.ts';
import { configFromRun } from '../run/runPaths.ts';
import type { CommittedCheckpoint, SavedState } from './checkpoints.ts';
import { CoordinatorState } from './state.ts';

export interface StartingPoint {
  readonly checkpoint: CommittedCheckpoint;
  readonly config: RunConfig;
  readonly state: CoordinatorState;
  readonly datasetHash: string;
  /** Absent in checkpoints of older versions. */
  readonly tokenizer: TokenizerRecord | undefined;
}

/**
 * The newest sound checkpoint of a run, if there is one, and those that were refused before it was found.
 * @param upTo step of the newest that counts; any when left out
 */
export async function startingPoint(
  run: RunDirectory,
  { distrust }: CheckpointHistory,
  upTo = Number.POSITIVE_INFINITY,
): Promise<{ readonly from: StartingPoint | undefined; readonly refused: readonly RefusedCheckpoint[] }> {
  const { checkpoint, refused } = await newestValidCheckpoint(run.path, { deep: true, distrust, upTo });
  if (!checkpoint) return { from: undefined, refused };
  const { step, directory, manifest } = checkpoint;
  const saved = manifest.state as unknown as SavedState;
  const from = {
    checkpoint: { path: directory, step, weights: manifest.hashes.weights },
    config: configFromRun(run.path, parseConfig(manifest.config, RunConfig, `${directory}/manifest.json`)),
    state: CoordinatorState.parse(saved.coordinator),
    datasetHash: saved.datasetHash,
    tokenizer: TokenizerRecord.optional().parse(saved.tokenizer),
  };
  return { from, refused };
}
