import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SluiceError } from '@sluice/core';
import { ByteLevelTokenizer } from './byteLevelTokenizer.ts';
import { AnyTokenizerJson, BpeTokenizerJson } from './json.ts';
import { LibraryTokenizer } from './libraryTokenizer.ts';
import type { Tokenizer } from './tokenizer.ts';

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
 * @throws SluiceError SLUICE_E_FILE_MISSING, SLUICE_E_TOKENIZER_INVALID
 */
export function loadTokenizer(path: string, options: LoadTokenizerOptions = {}): Tokenizer {
  const file = tokenizerFile(path);
  const json = parse(file, AnyTokenizerJson.safeParse(readJson(file)));
  const endOfTextId = findEndOfText(file, json, options.endOfText);
  return fastTokenizer(json, endOfTextId) ?? libraryTokenizer(file, json, endOfTextId);
}

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

function fastTokenizer(json: AnyTokenizerJson, endOfTextId: number): Tokenizer | null {
  const bpe = BpeTokenizerJson.safeParse(json);
  if (!bpe.success) return null;
  try {
    return ByteLevelTokenizer.from(bpe.data, endOfTextId);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

function libraryTokenizer(file: string, json: AnyTokenizerJson, endOfTextId: number): Tokenizer {
  try {
    return new LibraryTokenizer(json, endOfTextId);
  } catch (error) {
    throw invalid(file, `Hugging Face's tokenizers library refuses it: ${(error as Error).message}`, error);
  }
}

function findEndOfText(file: string, json: AnyTokenizerJson, wanted: string | undefined): number {
  const vocab = json.model.vocab;
  const idOf = (token: string): number | undefined =>
    json.added_tokens.find(({ content }) => content === token)?.id ??
    (Array.isArray(vocab) ? undefined : (vocab as Record<string, number> | undefined)?.[token]);
  const names = wanted === undefined ? [...configuredEndOfText(file), ...END_OF_TEXT_NAMES] : [wanted];
  for (const name of names) {
    const id = idOf(name);
    if (id !== undefined) return id;
  }
  throw invalid(
    file,
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
    throw invalid(file, (error as Error).message, error);
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
  throw invalid(file, `${issue?.path.join('.')}: ${issue?.message}`);
}

function invalid(file: string, reason: string, cause?: unknown): SluiceError {
  return new SluiceError('SLUICE_E_TOKENIZER_INVALID', `The tokenizer ${file} cannot be used: ${reason}.`, {
    details: { path: file },
    cause,
  });
}
