/**
 * The files by which a model's tokens are text: tokenizer, special tokens, chat templates, settings of generation. They travel
 * with the weights, byte for byte, and are told by their hashes.
 */

import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { makeDirectories, SluiceError, sha256, writeFileAtomic } from '@sluice/core';
import { openDataset } from '@sluice/data';
import { z } from 'zod';
import type { Manifest } from '../manifest.ts';
import { refuseLfsPointer } from './lfsPointer.ts';

export const TOKENIZER_NAME = 'tokenizer.json';

/** Whatever of these is there is copied. */
const FILE_NAMES = [
  TOKENIZER_NAME,
  'tokenizer_config.json',
  'tokenizer.model',
  'vocab.json',
  'vocab.txt',
  'merges.txt',
  'added_tokens.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  'chat_template.json',
  'generation_config.json',
];

/** Where `transformers` keeps chat templates beside the first, each in a file of its name. */
const TEMPLATE_FOLDER = 'additional_chat_templates';

/** Where an imported checkpoint keeps these files. */
export const TOKENIZER_FOLDER = 'tokenizer';

/** SHA-256 of each file, by its path below the folder. */
const FileHashes = z.record(
  z.string().regex(/^([\w-][\w.-]*\/)?[\w-][\w.-]*$/),
  z.string().regex(/^[0-9a-f]{64}$/),
);

/** What a run or a checkpoint keeps about the files. */
export const TokenizerRecord = z.object({
  files: FileHashes,
  /**
   * The keys of special tokens in the `config.json` that the files came with. They mark files of a Hugging Face model, which
   * say themselves what begins and ends a text; a model trained here does so by its end-of-text token.
   */
  tokenKeys: z.record(z.string(), z.json()).optional(),
  /** The token between the documents of the corpus, where the files are those of a Hugging Face model. */
  endOfText: z.string().optional(),
});

export type TokenizerRecord = z.infer<typeof TokenizerRecord>;

/** What a checkpoint's manifest says in `state.tokenizer`. */
export const SavedTokenizer = TokenizerRecord.extend({
  /** The folder, from the checkpoint's directory: `tokenizer`, or `../../tokenizer` in a run. */
  directory: z.string(),
});

export type SavedTokenizer = z.infer<typeof SavedTokenizer>;

/** Where the files lie. */
export interface LocatedTokenizer extends Pick<TokenizerRecord, 'tokenKeys' | 'endOfText'> {
  readonly folder: string;
  /** Its `tokenizer.json`, if there is one. */
  readonly path: string | undefined;
}

/**
 * The keys of special tokens of a `config.json`. A model that sees too may have them with its language model (`text_config`);
 * as in `transformers`, those are taken which it does not have itself.
 */
export function tokenKeysOf(
  config: Readonly<Record<string, unknown>>,
): NonNullable<TokenizerRecord['tokenKeys']> {
  const text = (config.text_config ?? {}) as Readonly<Record<string, unknown>>;
  const keys = ['bos_token_id', 'eos_token_id', 'pad_token_id'].filter((key) => key in config || key in text);
  return Object.fromEntries(keys.map((key) => [key, config[key] ?? text[key] ?? null])) as NonNullable<
    TokenizerRecord['tokenKeys']
  >;
}

/** Paths of a tokenizer's files below a folder. */
async function namesIn(folder: string): Promise<string[]> {
  const present = new Set(await readdir(folder));
  const names = FILE_NAMES.filter((name) => present.has(name));
  if (!present.has(TEMPLATE_FOLDER)) return names;
  const templates = (await readdir(join(folder, TEMPLATE_FOLDER))).filter((name) => name.endsWith('.jinja'));
  return [...names, ...templates.sort().map((name) => `${TEMPLATE_FOLDER}/${name}`)];
}

/**
 * Copies a tokenizer's files.
 * @returns their hashes; none when `from` has no such files
 * @throws SLUICE_E_HF_LFS_POINTER, SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE
 */
export async function copyTokenizer(from: string, to: string): Promise<TokenizerRecord['files']> {
  const hashes: TokenizerRecord['files'] = {};
  for (const name of await namesIn(from)) {
    const bytes = await readFile(join(from, name));
    refuseLfsPointer(join(from, name), bytes);
    makeDirectories(dirname(join(to, name)));
    await writeFileAtomic(join(to, name), bytes);
    hashes[name] = sha256(bytes);
  }
  return hashes;
}

/**
 * Compares the files in a folder with their hashes.
 * @throws SLUICE_E_TOKENIZER_MISSING when there is no such folder, SLUICE_E_TOKENIZER_CHANGED
 */
export async function verifyTokenizer(folder: string, files: TokenizerRecord['files']): Promise<void> {
  if (!existsSync(folder)) {
    throw new SluiceError(
      'SLUICE_E_TOKENIZER_MISSING',
      `The tokenizer should lie in ${folder}, which is not there.`,
      {
        details: { path: folder },
      },
    );
  }
  for (const [name, expected] of Object.entries(files)) {
    const path = join(folder, name);
    const bytes = await readFile(path).catch(() => undefined);
    if (bytes && sha256(bytes) === expected) continue;
    const how = bytes ? 'is not the file that was saved with the model' : 'is missing or cannot be read';
    throw new SluiceError('SLUICE_E_TOKENIZER_CHANGED', `${path} ${how} (SHA-256 ${expected}).`, {
      details: { path, sha256: expected },
    });
  }
}

/** The files in a Hugging Face directory. */
export function tokenizerOfHuggingFace(
  folder: string,
  config: Readonly<Record<string, unknown>>,
): LocatedTokenizer {
  return { folder, path: tokenizerPathIn(folder), tokenKeys: tokenKeysOf(config) };
}

/**
 * The files that a checkpoint's model speaks through: beside its weights, if it was imported, otherwise in its run's
 * directory.
 * @returns undefined when it has none
 * @throws the errors of `verifyTokenizer`; for a checkpoint of an older version those of `openDataset`
 */
export async function locateTokenizer(
  directory: string,
  { state }: Pick<Manifest, 'state'>,
): Promise<LocatedTokenizer | undefined> {
  if (state.tokenizer === undefined) return locateOlder(directory, state);
  const { directory: written, files, tokenKeys, endOfText } = SavedTokenizer.parse(state.tokenizer);
  const folder = resolve(directory, written);
  await verifyTokenizer(folder, files);
  return { folder, path: tokenizerPathIn(folder), tokenKeys, endOfText };
}

/** Checkpoints once knew where their corpus lay, and imported ones kept no hashes. */
function locateOlder(directory: string, state: Manifest['state']): LocatedTokenizer | undefined {
  if (typeof state.dataDirectory === 'string') {
    const path = openDataset(state.dataDirectory).tokenizerPath;
    return { folder: dirname(path), path };
  }
  const folder = join(directory, TOKENIZER_FOLDER);
  if (!existsSync(folder)) return undefined;
  const { config = {} } = (state.imported ?? {}) as { config?: Record<string, unknown> };
  return tokenizerOfHuggingFace(folder, config);
}

function tokenizerPathIn(folder: string): string | undefined {
  const path = join(folder, TOKENIZER_NAME);
  return existsSync(path) ? path : undefined;
}
