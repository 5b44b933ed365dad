/** How a model's tokens are text: its tokenizer, and the tokens that begin and end one. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type LocatedTokenizer, readJson, refuseLfsPointerAt } from '@sluice/checkpoint/huggingface';
import { SluiceError } from '@sluice/core';
import { type DataConfig, loadTokenizer, type Tokenizer, tokenId, tokensAround } from '@sluice/data';

export interface TextCodec {
  readonly tokenizer: Tokenizer;
  /** Its `tokenizer.json`. */
  readonly tokenizerPath: string;
  /** Tokens that stand before every text. */
  readonly start: readonly number[];
  /** Tokens that stand behind every text that is read. */
  readonly end: readonly number[];
  /** Tokens that end one. */
  readonly stop: ReadonlySet<number>;
  /** What a user should know of how the files were read, one sentence each. */
  readonly notes: readonly string[];
}

/** How a model that was trained here read its corpus. */
export type Reading = Partial<Pick<DataConfig, 'documents' | 'beginning'>>;

/**
 * For any model: a Hugging Face model's files say what begins and ends a text; one that was trained here has its end-of-text
 * token, and what it was trained to begin with.
 * @throws SLUICE_E_TOKENIZER_MISSING, SLUICE_E_TOKENIZER_INVALID, SLUICE_E_HF_CONFIG, SLUICE_E_HF_LFS_POINTER,
 *   SLUICE_E_TOKEN_UNKNOWN
 */
export async function codecOf(tokenizer: LocatedTokenizer, reading: Reading = {}): Promise<TextCodec> {
  const { folder, path } = tokenizer;
  if (path === undefined) {
    throw new SluiceError('SLUICE_E_TOKENIZER_MISSING', `There is no tokenizer.json in ${folder}.`, {
      details: { path: folder },
    });
  }
  await refuseLfsPointerAt(path);
  const codec = tokenizer.tokenKeys ? await huggingFaceCodec(path, tokenizer) : trainedCodec(path, reading);
  const { beginning } = reading;
  return beginning === undefined ? codec : { ...codec, start: [tokenId(path, beginning)] };
}

/**
 * The tokens that a model goes on from, at least one. One that was trained on separate documents sees of a prompt what follows the last
 * end of one.
 */
export function promptTokens(
  { tokenizer, start, end }: TextCodec,
  reading: Reading,
  prompt: string,
): number[] {
  const { endOfTextId } = tokenizer;
  const encoded = tokenizer.encode(prompt);
  const seen =
    reading.documents === 'separate' ? encoded.slice(encoded.lastIndexOf(endOfTextId) + 1) : encoded;
  const tokens = [...start, ...seen, ...end];
  return tokens.length > 0 ? tokens : [endOfTextId];
}

/**
 * For a model that was trained here: its end-of-text token stands behind every document, and was seen before it where
 * documents were packed.
 */
function trainedCodec(tokenizerPath: string, { documents }: Reading): TextCodec {
  const tokenizer = loadTokenizer(tokenizerPath);
  const { endOfTextId } = tokenizer;
  const start = documents === 'separate' ? [] : [endOfTextId];
  return { tokenizer, tokenizerPath, start, end: [], stop: new Set([endOfTextId]), notes: [] };
}

/**
 * For a Hugging Face model: what `generation_config.json`, else `config.json`, says ends a text, and around it what
 * `tokenizer.json` puts there, as `transformers` does. Where such a model was trained on, the token between the documents of its
 * corpus ends a text too.
 */
async function huggingFaceCodec(
  tokenizerPath: string,
  { folder, tokenKeys = {}, endOfText }: LocatedTokenizer,
): Promise<TextCodec> {
  const tokenizer = loadTokenizer(tokenizerPath, { endOfText });
  const generation = await optionalJson(join(folder, 'generation_config.json'));
  const tokenizerConfig = await optionalJson(join(folder, 'tokenizer_config.json'));
  const stop = tokenIds(folder, 'eos_token_id', generation.eos_token_id ?? tokenKeys.eos_token_id);
  if (stop.length === 0 || endOfText !== undefined) stop.push(tokenizer.endOfTextId);
  const { before: start, after: end } = tokensAround(tokenizerPath);
  const notes = [
    ...contradiction('add_bos_token', tokenizerConfig, start, 'before'),
    ...contradiction('add_eos_token', tokenizerConfig, end, 'behind'),
  ];
  return { tokenizer, tokenizerPath, start, end, stop: new Set(stop), notes };
}

/** Only the classes of Llama in `transformers` 4 go by these keys. */
function contradiction(
  key: string,
  config: Readonly<Record<string, unknown>>,
  tokens: readonly number[],
  where: string,
): string[] {
  const asked = config[key];
  if (typeof asked !== 'boolean' || asked === tokens.length > 0) return [];
  const added = tokens.length > 0 ? `the ids ${tokens.join(', ')}` : 'nothing';
  return [
    `${key} ${asked} of tokenizer_config.json is passed over: tokenizer.json puts ${added} ${where} a text (post_processor)`,
  ];
}

async function optionalJson(path: string): Promise<Record<string, unknown>> {
  return existsSync(path) ? readJson(path) : {};
}

/** One id, several, or none. */
function tokenIds(folder: string, key: string, value: unknown): number[] {
  const ids = [value ?? []].flat();
  const bad = ids.find((id) => !Number.isSafeInteger(id) || (id as number) < 0);
  if (bad === undefined) return ids as number[];
  throw new SluiceError(
    'SLUICE_E_HF_CONFIG',
    `${key} of ${folder} is ${JSON.stringify(value)}: no ids of tokens.`,
    {
      details: { path: folder, key, value },
    },
  );
}
