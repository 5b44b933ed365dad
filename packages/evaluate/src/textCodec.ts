/** How a model's tokens are text: its tokenizer, and the tokens that begin and end one. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readJson } from '@sluice/checkpoint/huggingface';
import { SluiceError } from '@sluice/core';
import { loadTokenizer, type Tokenizer } from '@sluice/data';

export interface TextCodec {
  readonly tokenizer: Tokenizer;
  /** Its `tokenizer.json`. */
  readonly tokenizerPath: string;
  /** Tokens that stand before every text. */
  readonly start: readonly number[];
  /** Tokens that end one. */
  readonly stop: ReadonlySet<number>;
}

/** For a model that was trained here: its end-of-text token stands before and behind every document. */
export function trainedCodec(tokenizerPath: string): TextCodec {
  const tokenizer = loadTokenizer(tokenizerPath);
  const { endOfTextId } = tokenizer;
  return { tokenizer, tokenizerPath, start: [endOfTextId], stop: new Set([endOfTextId]) };
}

/**
 * For a Hugging Face model: what `generation_config.json`, else `config.json`, says ends a text, and a beginning only
 * where the tokenizer is said to add one.
 * @param folder of the tokenizer's files
 * @param config the content of `config.json`
 * @throws SLUICE_E_TOKENIZER_MISSING, SLUICE_E_TOKENIZER_INVALID
 */
export async function huggingFaceCodec(
  folder: string,
  config: Readonly<Record<string, unknown>>,
): Promise<TextCodec> {
  const tokenizerPath = join(folder, 'tokenizer.json');
  if (!existsSync(tokenizerPath)) {
    throw new SluiceError('SLUICE_E_TOKENIZER_MISSING', `There is no tokenizer.json in ${folder}.`, {
      details: { path: folder },
    });
  }
  const tokenizer = loadTokenizer(folder);
  const generation = await optionalJson(join(folder, 'generation_config.json'));
  const tokenizerConfig = await optionalJson(join(folder, 'tokenizer_config.json'));
  const stop = tokenIds(generation.eos_token_id ?? config.eos_token_id);
  const [begin] = tokenIds(generation.bos_token_id ?? config.bos_token_id);
  return {
    tokenizer,
    tokenizerPath,
    start: tokenizerConfig.add_bos_token === true && begin !== undefined ? [begin] : [],
    stop: new Set(stop.length > 0 ? stop : [tokenizer.endOfTextId]),
  };
}

async function optionalJson(path: string): Promise<Record<string, unknown>> {
  return existsSync(path) ? readJson(path) : {};
}

/** One id, several, or none. */
function tokenIds(value: unknown): number[] {
  return [value].flat().filter((id) => Number.isSafeInteger(id)) as number[];
}
