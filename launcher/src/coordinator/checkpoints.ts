/**
 * Writing checkpoints, in an order that a crash anywhere leaves harmless: intent into the journal, an empty directory,
 * the workers' shards, the manifest last, commit into the journal, and only then are older checkpoints removed. Training
 * waits for all that, or only until the workers have copied their state to memory.
 */

import { existsSync } from 'node:fs';
import { relative } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  beginCheckpoint,
  checkpointDirectory,
  commitCheckpoint,
  pruneCheckpoints,
  removeCheckpoint,
  type SavedTensor,
  type ShardRecord,
} from '@sluice/checkpoint';
import type { SavedTokenizer, TokenizerRecord } from '@sluice/checkpoint/huggingface';
import { fileError, hashConfig, SluiceError } from '@sluice/core';
import { earliestRollback, type Probe, type RunConfig, type SaveRequest } from '@sluice/train';
import { checkpointHistory } from '../run/checkpointHistory.ts';
import { type Journal, type JournalEntry, readJournal } from '../run/journal.ts';
import { type RunDirectory, refuseVanished } from '../run/runDirectory.ts';
import { configInRun, pathInRun } from '../run/runPaths.ts';
import type { Collection } from './collection.ts';
import type { RunCorpora } from './corpora.ts';
import type { Interludes } from './interludes.ts';
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
  readonly corpora: RunCorpora;
  readonly tokenizer: TokenizerRecord;
  /** Of a state of the workers. */
  readonly tensors: (worker: Readonly<Record<string, unknown>>) => SavedTensor[];
  readonly workers: Workers;
  /** Fetches the shards, where the workers' hosts do not see the run's directory. */
  readonly collection?: Pick<Collection, 'fetch'> | undefined;
  readonly journal: Journal;
  /** Throws when the run is another process's by now. */
  readonly assertOwned: () => void;
  /** Tells people what went wrong without being an error. */
  readonly warn: (text: string) => void;
  /** Directories of saves that failed, whose remains take room until the next one. */
  readonly remains: Set<string>;
}

/** A state that is not worth a checkpoint, since no training goes on from it. */
export interface UnsoundState {
  readonly unsound: string;
}

/**
 * Saves all workers' parts and the coordinator's state; the checkpoint is durable when this resolves. Nothing is written of
 * weights that are not finite, or that give no finite loss.
 */
export async function saveCheckpoint(
  writer: CheckpointWriter,
  state: CoordinatorState,
): Promise<CommittedCheckpoint | UnsoundState> {
  const { step } = state;
  const examined = await examine(writer, step);
  if ('unsound' in examined) return examined;
  await removeRemains(writer);
  writer.journal.append('save', step, { path: placeOf(writer, step) });
  return unlessVanished(writer, async () => {
    const directory = await begin(writer, step);
    const answers = await withPlace(directory, writer.workers.call('save', saveRequest(writer, directory)));
    const { state: worker } = agreed(`save at step ${step}`, answers, ['state']);
    const shards = answers.map(({ shard }) => shard);
    return complete(writer, directory, { state, worker, shards, probe: examined });
  });
}

/** A state that is worth a checkpoint, in the workers' memory. */
export interface StagedCheckpoint {
  /**
   * Writes it while the workers compute; durable when this resolves. Until it does, nothing else is staged. May be tried again.
   * @param between speaks to the workers when they have nothing else to do
   */
  write(between: Interludes): Promise<CommittedCheckpoint>;
}

/** As `saveCheckpoint`, up to where training may go on. */
export async function stageCheckpoint(
  writer: CheckpointWriter,
  now: CoordinatorState,
): Promise<StagedCheckpoint | UnsoundState> {
  const { step } = now;
  const examined = await examine(writer, step);
  if ('unsound' in examined) return examined;
  writer.journal.note('save', step, { path: placeOf(writer, step) });
  const state = structuredClone(now);
  const answers = await writer.workers.call('stage', {});
  const { state: worker } = agreed(`the staged state of step ${step}`, answers, ['state']);
  return {
    async write(between) {
      await removeRemains(writer);
      return unlessVanished(writer, async () => {
        const directory = await begin(writer, step);
        const shards = await withPlace(directory, writeStaged(writer, directory, between));
        return complete(writer, directory, { state, worker, shards, probe: examined });
      });
    },
  };
}

async function examine({ workers }: CheckpointWriter, step: number): Promise<Probe | UnsoundState> {
  const examined = await workers.call('examine', {});
  const { probe } = agreed(`the probe at step ${step}`, examined, ['probe']);
  const nonFinite = [...new Set(examined.flatMap((answer) => answer.nonFinite))];
  if (nonFinite.length > 0) return { unsound: `not all numbers of ${listed(nonFinite)} are finite` };
  if (!Number.isFinite(probe.loss)) return { unsound: `the loss of the probe is ${probe.loss}` };
  return probe;
}

function placeOf({ run }: CheckpointWriter, step: number): string {
  return pathInRun(run.path, checkpointDirectory(run.path, step));
}

/** Whatever fails while the run's directory is not there fails for that, and may be tried again. */
async function unlessVanished<T>({ run }: CheckpointWriter, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    refuseVanished(run);
    throw error;
  }
}

async function begin({ run, remains }: CheckpointWriter, step: number): Promise<string> {
  refuseVanished(run);
  remains.add(checkpointDirectory(run.path, step));
  return beginCheckpoint(run.path, step);
}

function saveRequest({ workers, collection }: CheckpointWriter, directory: string): SaveRequest {
  return {
    directory,
    ...(workers.id !== undefined && { writer: workers.id }),
    ...(collection && { isFetched: true }),
  };
}

/** Pauses between questions whether the workers have written, ms: from the first to the last. */
const ASKING_MS = [5, 500] as const;

/** @returns the shards, in order of ranks, when all workers have ended writing */
async function writeStaged(
  writer: CheckpointWriter,
  directory: string,
  between: Interludes,
): Promise<ShardRecord[]> {
  const { workers } = writer;
  await between.ask(() => workers.call('write', saveRequest(writer, directory)));
  for (let pause: number = ASKING_MS[0]; ; pause = Math.min(ASKING_MS[1], 1.5 * pause)) {
    const answers = await between.ask(() => workers.call('written', {}));
    if (answers.every(({ shard, failure }) => shard || failure)) {
      const failure = answers.find((answer) => answer.failure)?.failure;
      if (failure) throw new SluiceError(failure.code, failure.message, { details: { directory } });
      return answers.map(({ shard }) => shard!);
    }
    await delay(pause);
  }
}

/** What makes shards that are written a checkpoint. */
interface WrittenState {
  readonly state: CoordinatorState;
  /** The workers' state, the same on all of them. */
  readonly worker: Readonly<Record<string, unknown>>;
  readonly shards: readonly ShardRecord[];
  readonly probe: Probe;
}

async function complete(
  writer: CheckpointWriter,
  directory: string,
  { state, worker, shards, probe }: WrittenState,
): Promise<CommittedCheckpoint> {
  const { run, corpora, journal, collection } = writer;
  const { step } = state;
  await collection?.fetch(directory, shards);
  const saved: SavedState = {
    coordinator: state,
    worker,
    datasetHash: corpora.datasetHash,
    tokenizer: { ...writer.tokenizer, directory: relative(directory, run.tokenizer) },
  };
  const config = configInRun(run.path, writer.config);
  // Saving took its time, in which another process may have come to own the run.
  writer.assertOwned();
  const manifest = await commitCheckpoint({
    directory,
    step,
    tensors: writer.tensors(worker),
    shards,
    config,
    configHash: hashConfig(config),
    state: saved as unknown as Record<string, unknown>,
    probe: { ...probe },
  });
  writer.remains.delete(directory);
  // By its manifest the checkpoint exists, whatever becomes of the journal and of older ones.
  journal.note('commit', step, { path: pathInRun(run.path, directory), weights: manifest.hashes.weights });
  await pruneOlder(writer, step);
  return { path: directory, step, weights: manifest.hashes.weights };
}

async function pruneOlder({ run, config, warn }: CheckpointWriter, step: number): Promise<void> {
  const prune = () => {
    const entries = readJournal(run.journal);
    const { committed, distrust } = checkpointHistory(entries);
    const protect = [
      ...neededToGoBack(config, committed, step),
      ...keptForGood(config.checkpoint, committed, entries),
    ];
    return pruneCheckpoints(run.path, config.checkpoint.keep, { upTo: step, distrust, protect });
  };
  await unlessUnwritable(run.checkpoints, prune, (reason) =>
    warn(`older checkpoints could not be removed: ${reason}`),
  );
}

/** Steps of the checkpoints that a spike from here on may lead back to. */
function neededToGoBack(config: RunConfig, committed: Iterable<number>, step: number): number[] {
  if (config.spikes.policy !== 'rollback') return [];
  const earliest = earliestRollback(config, step);
  const steps = [...committed];
  const newestBefore = Math.max(-1, ...steps.filter((saved) => saved <= earliest));
  return steps.filter((saved) => saved >= newestBefore);
}

/**
 * Steps of the checkpoints that stay whatever comes: of every so many steps, and the one whose validation loss is the lowest, the
 * earliest of several.
 * @param committed steps that the run rests on
 * @param entries of its journal, oldest first
 */
export function keptForGood(
  { keepEverySteps, keepBest }: Pick<RunConfig['checkpoint'], 'keepEverySteps' | 'keepBest'>,
  committed: ReadonlySet<number>,
  entries: readonly JournalEntry[],
): number[] {
  const regular =
    keepEverySteps === undefined ? [] : [...committed].filter((step) => step % keepEverySteps === 0);
  if (!keepBest) return regular;
  // A step that was taken again was validated again.
  const losses = new Map<number, number>();
  for (const entry of entries) {
    if (entry.kind !== 'evaluate' || !committed.has(entry.step)) continue;
    losses.set(entry.step, typeof entry.loss === 'number' ? entry.loss : Number.POSITIVE_INFINITY);
  }
  const lowest = Math.min(...losses.values());
  const best = [...losses]
    .filter(([, loss]) => loss === lowest && Number.isFinite(loss))
    .map(([step]) => step);
  return [...regular, ...(best.length > 0 ? [Math.min(...best)] : [])];
}

/** A worker that does not see the checkpoint's directory says only that it is missing. */
async function withPlace<T>(directory: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const isUnseen = error instanceof SluiceError && error.code === 'SLUICE_E_FILE_MISSING';
    if (!isUnseen || !existsSync(directory)) throw error;
    throw new SluiceError(
      'SLUICE_E_CHECKPOINT_INCOMPLETE',
      `A worker does not see ${directory}, which the coordinator has made: ${error.message} Where hosts do not share the run's directory, give --collect.`,
      { details: { directory }, cause: error },
    );
  }
}

/** Names that a message has room for. */
const SHOWN_NAMES = 3;

function listed(names: readonly string[]): string {
  const more = names.length - SHOWN_NAMES;
  return [...names.slice(0, SHOWN_NAMES), ...(more > 0 ? [`${more} more tensors`] : [])].join(', ');
}

/**
 * Comes before all else, since these may be what fills the disk. By now all workers have ended what they were writing when
 * the first of them failed.
 */
async function removeRemains({ remains, warn }: CheckpointWriter): Promise<void> {
  for (const directory of remains) {
    await unlessUnwritable(
      directory,
      () => removeCheckpoint(directory),
      (reason) => warn(`what is left of a failed save could not be removed: ${reason}`),
    );
    remains.delete(directory);
  }
}

async function unlessUnwritable(
  path: string,
  work: () => Promise<unknown>,
  tell: (reason: string) => void,
): Promise<void> {
  try {
    await work();
  } catch (cause) {
    const error = fileError(path, cause);
    if (!(error instanceof SluiceError)) throw error;
    tell(error.message);
  }
}
