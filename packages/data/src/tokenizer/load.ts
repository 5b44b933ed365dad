import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { nearest, SluiceError } from '@sluice/core';
import { z } from 'zod';
import { type ByteLevelOptions, ByteLevelTokenizer } from './byteLevelTokenizer.ts';
import { invalidTokenizer } from './invalid.ts';
import { AnyTokenizerJson, BpeTokenizerJson } from './json.ts';
import { loadLibrary } from './library.ts';
import { LibraryTokenizer } from './libraryTokenizer.ts';
import {
  PostProcessorJson,
  postProcessorFor,
  type TextBeginning,
  type TokensAround,
  tokensAroundBy,
} from './postProcessor.ts';
import type { Tokenizer } from './tokenizer.ts';
import { numberingNotes, type TokenTable, tokenTable } from './tokenTable.ts';

/** Names that end-of-text tokens go by, the most specific first. */
const END_OF_TEXT_NAMES = [
  '<|endoftext|>',
  '<|end_of_text|>',
  '<|end▁of▁sentence|>',
  '<eos>',
  '</s>',
  '[EOS]',
  '<|im_end|>',
];

export interface LoadTokenizerOptions {
  /** The token that ends a document; found by its usual names, or in `tokenizer_config.json`, when left out. */
  readonly endOfText?: string | undefined;
}

/**
 * Loads a `tokenizer.json` of the Hugging Face format: one trained here, or anyone's.
 * @param path the file, or the folder that holds it
 * @throws SluiceError SLUICE_E_FILE_MISSING, SLUICE_E_TOKENIZER_INVALID, SLUICE_E_TOKENIZER_LIBRARY
 */
export function loadTokenizer(path: string, options: LoadTokenizerOptions = {}): Tokenizer {
  const file = tokenizerFile(path);
  const content = readJson(file);
  const json = parse(file, AnyTokenizerJson.safeParse(content));
  try {
    refuseDropout(json);
    const table = tokenTable(json);
    const endOfText = findEndOfText(file, table, options.endOfText);
    const notes = numberingNotes(json);
    return (
      ownTokenizer(content, { table, endOfText, notes }) ??
      new LibraryTokenizer({ file, json, table, endOfText, notes })
    );
  } catch (error) {
    if (error instanceof SluiceError) throw error;
    throw invalidTokenizer(file, error as Error);
  }
}

/**
 * The id of a token, by its text as the file has it.
 * @param path of a `tokenizer.json`
 * @throws SluiceError SLUICE_E_TOKEN_UNKNOWN, with the tokens that may be meant; SLUICE_E_TOKENIZER_INVALID
 */
export function tokenId(path: string, token: string): number {
  const json = parse(path, AnyTokenizerJson.safeParse(readJson(path)));
  const { idOfToken } = tokenTable(json);
  const id = idOfToken.get(token);
  if (id !== undefined) return id;
  const added = json.added_tokens.map(({ content }) => content);
  const meant = nearest(token, added) ?? nearest(token, [...idOfToken.keys()]);
  const suggestion = meant === undefined ? '' : ` (did you mean ${JSON.stringify(meant)}?)`;
  const special = added.slice(0, TOKENS_SHOWN).map((one) => JSON.stringify(one));
  if (added.length > TOKENS_SHOWN) special.push('…');
  throw new SluiceError(
    'SLUICE_E_TOKEN_UNKNOWN',
    `The tokenizer ${path} has no token ${JSON.stringify(token)}${suggestion}. Its special tokens: ${special.join(', ') || 'none'}.`,
    { details: { token, tokenizer: path, nearest: meant ?? null } },
  );
}

const WithPostProcessor = z.looseObject({ post_processor: PostProcessorJson.nullish() });

/**
 * The tokens that a `tokenizer.json` puts around every text.
 * @throws SluiceError SLUICE_E_TOKENIZER_INVALID
 */
export function tokensAround(path: string): TokensAround {
  const content = readJson(path);
  const { post_processor: processor } = parse(path, WithPostProcessor.safeParse(content));
  const { size } = tokenTable(parse(path, AnyTokenizerJson.safeParse(content)));
  try {
    const around = tokensAroundBy(processor);
    const beyond = [...around.before, ...around.after].find((id) => id >= size);
    if (beyond !== undefined)
      throw new Error(`its post_processor adds the id ${beyond}, and it has ${size} tokens`);
    return around;
  } catch (error) {
    throw invalidTokenizer(path, error as Error);
  }
}

/**
 * The content of a `tokenizer.json` which puts one token before every text, or nothing, and nothing behind it; undefined
 * when it does so already.
 * @throws SluiceError SLUICE_E_TOKENIZER_INVALID
 */
export function tokenizerBeginningWith(
  path: string,
  beginning: TextBeginning | undefined,
): string | undefined {
  const wanted: TokensAround = { before: beginning ? [beginning.id] : [], after: [] };
  if (isDeepStrictEqual(tokensAround(path), wanted)) return undefined;
  return JSON.stringify({ ...(readJson(path) as object), post_processor: postProcessorFor(beginning) });
}

/** Whether two `tokenizer.json` give a text the same ids, but for what they put around it. */
export function isSameTokenizer(path: string, other: string): boolean {
  const [a, b] = [path, other].map((file) => ({ ...(readJson(file) as object), post_processor: null }));
  return isDeepStrictEqual(a, b);
}

/** Special tokens that a message names. */
const TOKENS_SHOWN = 12;

/** The `tokenizer.json` that a path means: itself, or the one in the folder. */
export function tokenizerFile(path: string): string {
  const file = existsSync(path) && statSync(path).isDirectory() ? join(path, 'tokenizer.json') : path;
  if (!existsSync(file)) {
    throw new SluiceError('SLUICE_E_FILE_MISSING', `There is no tokenizer at ${file}.`, {
      details: { path: file },
    });
  }
  return file;
}

/** Dropout is for the training of the tokenizer's user, who would see other ids each time. */
function refuseDropout({ model: { dropout } }: AnyTokenizerJson): void {
  if (dropout)
    throw new Error(`its model.dropout is ${dropout}, so that ids are drawn by lot; set it to null`);
}

function ownTokenizer(content: unknown, options: Omit<ByteLevelOptions, 'loadCompose'>): Tokenizer | null {
  const bpe = BpeTokenizerJson.safeParse(content);
  return bpe.success ? ByteLevelTokenizer.from(bpe.data, { ...options, loadCompose }) : null;
}

/** NFC by the library: JavaScript's knows newer characters. Without combining marks there is nothing to compose. */
function loadCompose(): (text: string) => string {
  const normalizer = loadLibrary().nfcNormalizer();
  return (text) => (/^[\0-\u02ff]*$/.test(text) ? text : normalizer.normalizeString(text));
}

/** The first of the names that end-of-text tokens go by which is a token. */
function findEndOfText(file: string, { idOfToken }: TokenTable, wanted: string | undefined): string {
  const names = wanted === undefined ? [...configuredEndOfText(file), ...END_OF_TEXT_NAMES] : [wanted];
  const found = names.find((name) => idOfToken.has(name));
  if (found !== undefined) return found;
  throw new Error(
    wanted === undefined
      ? `it has no end-of-text token under a usual name (${END_OF_TEXT_NAMES.join(', ')}); name it with endOfText`
      : `it has no token ${JSON.stringify(wanted)} (endOfText)`,
  );
}

function configuredEndOfText(file: string): string[] {
  const config = join(dirname(file), 'tokenizer_config.json');
  if (!existsSync(config)) return [];
  const { eos_token: token } = (readJson(config) ?? {}) as {
    eos_token?: string | { content?: string } | null;
  };
  const content = typeof token === 'string' ? token : token?.content;
  return content === undefined ? [] : [content];
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw invalidTokenizer(file, error as Error);
  }
}

function parse<T>(
  file: string,
  result:
    | { success: true; data: T }
    | { success: false; error: { issues: { path: PropertyKey[]; message: string }[] } },
): T {
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw invalidTokenizer(file, new Error(`${issue?.path.join('.')}: ${issue?.message}`));
}
