/** The files of a tokenizer, which travel with a model's weights. */

import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeDirectories, writeFileAtomic } from '@sluice/core';
import { openDataset } from '@sluice/data';
import type { Manifest } from '../manifest.ts';

/** Whatever of these is there is copied; `generation_config.json` says which tokens end a text. */
const TOKENIZER_FILES = [
  'tokenizer.json',
  'tokenizer_config.json',
  'vocab.json',
  'merges.txt',
  'added_tokens.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  'generation_config.json',
];

/** Where an imported checkpoint keeps its tokenizer. */
export const TOKENIZER_FOLDER = 'tokenizer';

/**
 * Copies a tokenizer's files.
 * @returns their names; none when `from` has no tokenizer
 * @throws SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE
 */
export async function copyTokenizer(from: string, to: string): Promise<string[]> {
  const present = new Set(await readdir(from));
  const names = TOKENIZER_FILES.filter((name) => present.has(name));
  if (names.length === 0) return [];
  makeDirectories(to);
  for (const name of names) await writeFileAtomic(join(to, name), await readFile(join(from, name)));
  return names;
}

/**
 * The folder of the tokenizer that a checkpoint's model speaks through: its own, if it was imported, otherwise that of the
 * corpus that it was trained on.
 * @throws the coded errors of `openDataset` when that corpus is gone
 */
export function tokenizerFolder(directory: string, { state }: Manifest): string | undefined {
  if (typeof state.dataDirectory === 'string') return dirname(openDataset(state.dataDirectory).tokenizerPath);
  const own = join(directory, TOKENIZER_FOLDER);
  return existsSync(join(own, 'tokenizer.json')) ? own : undefined;
}
