/**
 * Writing checkpoints, in an order that a crash anywhere leaves harmless: intent into the journal, an empty directory,
 * the workers' shards, the manifest last, commit into the journal, and only then are older checkpoints removed.
 */

import { relative } from 'node:path';
import {
  beginCheckpoint,
  checkpointDirectory,
  commitCheckpoint,
  type LogicalTensor,
  pruneCheckpoints,
} from '@sluice/checkpoint';
import type { SavedTokenizer, TokenizerRecord } from '@sluice/checkpoint/huggingface';
import { hashConfig } from '@sluice/core';
import type { PrepareSummary } from '@sluice/data';
import type { RunConfig } from '@sluice/train';
import type { Journal } from '../run/journal.ts';
import type { RunDirectory } from '../run/runDirectory.ts';
import { configInRun, pathInRun } from '../run/runPaths.ts';
import type { CoordinatorState } from './state.ts';
import { agreed, type Workers } from './workers.ts';

/** What a checkpoint's manifest keeps under `state`. */
export interface SavedState {
  readonly coordinator: CoordinatorState;
  /** The workers' state, the same on all of them. */
  readonly worker: Readonly<Record<string, unknown>>;
  /** Hash of the prepared corpus that the run reads. */
  readonly datasetHash: string;
  /** The files by which the model's tokens are text, and where they lie. */
  readonly tokenizer: SavedTokenizer;
}

export interface CommittedCheckpoint {
  readonly path: string;
  readonly step: number;
  /** Content hash of all weights, the same for any sharding. */
  readonly weights: string;
}

export interface CheckpointWriter {
  readonly run: RunDirectory;
  readonly config: RunConfig;
  readonly dataset: PrepareSummary;
  readonly tokenizer: TokenizerRecord;
  readonly tensors: readonly LogicalTensor[];
  readonly workers: Workers;
  readonly journal: Journal;
}

/** Saves all workers' parts and the coordinator's state; the checkpoint is durable when this resolves. */
export async function saveCheckpoint(
  writer: CheckpointWriter,
  state: CoordinatorState,
): Promise<CommittedCheckpoint> {
  const { run, dataset, workers, journal } = writer;
  const { step } = state;
  journal.append('save', step, { path: pathInRun(run.path, checkpointDirectory(run.path, step)) });
  const directory = await beginCheckpoint(run.path, step);
  const answers = await workers.call('save', { directory });
  const { probe, state: worker } = agreed(`save at step ${step}`, answers, ['probe', 'state']);
  const saved: SavedState = {
    coordinator: state,
    worker,
    datasetHash: dataset.manifestHash,
    tokenizer: { ...writer.tokenizer, directory: relative(directory, run.tokenizer) },
  };
  const config = configInRun(run.path, writer.config);
  const manifest = await commitCheckpoint({
    directory,
    step,
    tensors: [...writer.tensors],
    shards: answers.map(({ shard }) => shard),
    config,
    configHash: hashConfig(config),
    state: saved as unknown as Record<string, unknown>,
    probe: { ...probe },
  });
  journal.append('commit', step, { path: pathInRun(run.path, directory), weights: manifest.hashes.weights });
  await pruneCheckpoints(run.path, writer.config.checkpoint.keep);
  return { path: directory, step, weights: manifest.hashes.weights };
}
