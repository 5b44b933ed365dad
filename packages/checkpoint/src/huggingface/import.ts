/** From a Hugging Face directory to a checkpoint of ours: the parameters, the model's configuration, the tokenizer. */

import { join } from 'node:path';
import { hashConfig } from '@sluice/core';
import { type HuggingFaceLayout, type LogicalTensor, type ModelConfig, modelTensors } from '@sluice/model';
import { commitCheckpoint, prepareDirectory } from '../commit.ts';
import type { ShardRecord } from '../manifest.ts';
import { writeShard } from '../shard.ts';
import { HuggingFaceDirectory } from './directory.ts';
import { fillOutputDirectory } from './outputDirectory.ts';
import { copyTokenizer, type SavedTokenizer, TOKENIZER_FOLDER, tokenKeysOf } from './tokenizerFiles.ts';

export interface ImportSummary {
  readonly model: ModelConfig;
  readonly layout: HuggingFaceLayout;
  /** Longest sequence that the model is meant for, in tokens. */
  readonly maxLength: number;
  /** Content hash of the weights. */
  readonly weights: string;
  readonly parameters: number;
  /** Names of the tokenizer's files that came along. */
  readonly tokenizerFiles: readonly string[];
  /** Keys of `config.json` that were passed over because that was asked for, with their values. */
  readonly ignoredKeys: Readonly<Record<string, unknown>>;
  /** What a person should know of how the directory was read. */
  readonly notes: readonly string[];
}

/** What an imported checkpoint's manifest says in `state`. */
export interface ImportedState {
  readonly imported: {
    readonly layout: HuggingFaceLayout;
    readonly maxLength: number;
    /** The content of `config.json`. */
    readonly config: Readonly<Record<string, unknown>>;
    /** Its keys that were passed over because that was asked for, with their values; absent when there were none. */
    readonly ignoredKeys?: Readonly<Record<string, unknown>>;
  };
  readonly tokenizer?: SavedTokenizer;
}

/** Elements of one shard, where a single tensor does not have more: the weights in memory at a time. */
const SHARD_ELEMENTS = 1 << 26;

export interface ImportOptions {
  /** Keys of `config.json` to pass over although nobody knows what they ask for. */
  readonly ignoreKeys?: readonly string[] | undefined;
  /** Told the parameters written so far and in all. */
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Writes a checkpoint with the weights of a Hugging Face directory and without an optimizer's state.
 * @param target a new or empty directory
 * @throws the errors of `HuggingFaceDirectory.open`; SLUICE_E_OUTPUT_EXISTS, SLUICE_E_DISK_FULL,
 *   SLUICE_E_FILE_UNWRITABLE; the signal's reason when it is aborted: then nothing is left
 */
export async function importHuggingFace(
  source: string,
  target: string,
  options: ImportOptions = {},
): Promise<ImportSummary> {
  const opened = await HuggingFaceDirectory.open(source, { ignore: options.ignoreKeys });
  try {
    return await fillOutputDirectory(target, () => writeImported(opened, target, options));
  } finally {
    await opened.close();
  }
}

async function writeImported(
  opened: HuggingFaceDirectory,
  target: string,
  options: ImportOptions,
): Promise<ImportSummary> {
  await prepareDirectory(target);
  const { model, layout, maxLength, config, ignoredKeys, notes } = opened;
  const tensors = modelTensors(model);
  const parameters = tensors.reduce((sum, { size }) => sum + size, 0);
  const shards = await writeShards(opened, tensors, target, parameters, options);
  const files = await copyTokenizer(opened.directory, join(target, TOKENIZER_FOLDER));
  const tokenizerFiles = Object.keys(files);
  const tokenizer = { directory: TOKENIZER_FOLDER, files, tokenKeys: tokenKeysOf(config) };
  const ignored = Object.keys(ignoredKeys).length > 0 ? { ignoredKeys } : {};
  const state: ImportedState = {
    imported: { layout, maxLength, config, ...ignored },
    ...(tokenizerFiles.length > 0 && { tokenizer }),
  };
  const { hashes } = await commitCheckpoint({
    directory: target,
    step: 0,
    tensors: tensors.map(({ name, shape }) => ({ name, shape })),
    kinds: ['parameter'],
    shards,
    config: { model },
    configHash: hashConfig({ model }),
    state: { ...state },
    probe: {},
  });
  const { weights } = hashes;
  return { model, layout, maxLength, weights, parameters, tokenizerFiles, ignoredKeys, notes };
}

async function writeShards(
  opened: HuggingFaceDirectory,
  tensors: readonly LogicalTensor[],
  target: string,
  parameters: number,
  { onProgress, signal }: ImportOptions,
): Promise<ShardRecord[]> {
  const shards: ShardRecord[] = [];
  let done = 0;
  for (const group of groupsOf(tensors)) {
    const pieces = [];
    for (const tensor of group) {
      signal?.throwIfAborted();
      const values = new Float32Array(tensor.size);
      await opened.read(tensor.name, values);
      pieces.push({ tensor, kind: 'parameter' as const, begin: 0, end: tensor.size, values });
      done += tensor.size;
    }
    shards.push(await writeShard(target, shards.length, pieces));
    onProgress?.(done, parameters);
  }
  signal?.throwIfAborted();
  return shards;
}

/** Neighbouring tensors, as many as a shard takes. */
function groupsOf(tensors: readonly LogicalTensor[]): LogicalTensor[][] {
  const groups: LogicalTensor[][] = [];
  let room = 0;
  for (const tensor of tensors) {
    if (tensor.size > room) {
      groups.push([]);
      room = SHARD_ELEMENTS;
    }
    groups.at(-1)!.push(tensor);
    room -= tensor.size;
  }
  return groups;
}
