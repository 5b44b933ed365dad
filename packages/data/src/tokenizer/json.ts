/** The parts of Hugging Face's `tokenizer.json` that Sluice reads itself. */

import { z } from 'zod';

/** More tokens than anyone has; a larger id would cost the memory of all below it. */
const ID_LIMIT = 2 ** 24;

/** Pairs of tokens, or, in old files, both in one string. There may be half a million. */
const Merges = z.custom<(string | readonly [string, string])[]>(isMerges, 'is not a list of pairs of tokens');

export const AddedTokenJson = z.looseObject({
  id: z.int().min(0).lt(ID_LIMIT),
  content: z.string().min(1),
  single_word: z.boolean().default(false),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
  normalized: z.boolean().default(false),
  special: z.boolean().default(false),
});

const NO_VOCABULARY = `is not a table from tokens to ids below ${ID_LIMIT}`;

/** A table from token to id, taken as it stands: any word may be a token, `constructor` and `__proto__` too. */
const Vocabulary = z.custom<Readonly<Record<string, number>>>(isVocabulary, NO_VOCABULARY);

const BpeModelJson = z.looseObject({
  type: z.literal('BPE').default('BPE'),
  vocab: Vocabulary,
  merges: Merges,
  dropout: z.number().nullish(),
  unk_token: z.string().nullish(),
  continuing_subword_prefix: z.string().nullish(),
  end_of_word_suffix: z.string().nullish(),
  byte_fallback: z.boolean().nullish(),
  fuse_unk: z.boolean().nullish(),
  ignore_merges: z.boolean().nullish(),
});

const ByteLevelJson = z.looseObject({
  type: z.literal('ByteLevel'),
  add_prefix_space: z.boolean().default(true),
  use_regex: z.boolean().default(true),
});

const SplitJson = z.looseObject({
  type: z.literal('Split'),
  pattern: z.strictObject({ Regex: z.string() }),
  behavior: z.literal('Isolated'),
  invert: z.literal(false).default(false),
});

/** A tokenizer of the shape that `ByteLevelTokenizer` implements; every other one goes to Hugging Face's library. */
export const BpeTokenizerJson = z.looseObject({
  version: z.string().nullish(),
  truncation: z.unknown(),
  padding: z.unknown(),
  added_tokens: z.array(AddedTokenJson).default([]),
  normalizer: z.union([z.null(), z.looseObject({ type: z.literal('NFC') })]).default(null),
  pre_tokenizer: z.union([
    ByteLevelJson,
    z.looseObject({ type: z.literal('Sequence'), pretokenizers: z.tuple([SplitJson, ByteLevelJson]) }),
  ]),
  post_processor: z.unknown(),
  decoder: ByteLevelJson,
  model: BpeModelJson,
});

export type BpeTokenizerJson = z.infer<typeof BpeTokenizerJson>;

/** What every `tokenizer.json` has, whatever its model. */
export const AnyTokenizerJson = z.looseObject({
  added_tokens: z.array(AddedTokenJson).default([]),
  model: z.looseObject({
    type: z.string().optional(),
    vocab: z.custom<z.infer<typeof Vocabulary> | [token: string, score: number][]>(
      (value) => isVocabulary(value) || isScored(value),
      NO_VOCABULARY,
    ),
    dropout: z.number().nullish(),
    unk_token: z.string().nullish(),
    unk_id: z.int().nullish(),
  }),
});

export type AnyTokenizerJson = z.infer<typeof AnyTokenizerJson>;
export type AddedTokenJson = z.infer<typeof AddedTokenJson>;

/** All tokens of a model, without those that were added to it, each with its id. */
export function modelTokens({ model: { vocab } }: AnyTokenizerJson): [token: string, id: number][] {
  return Array.isArray(vocab) ? vocab.map(([token], id) => [token, id]) : Object.entries(vocab);
}

function isVocabulary(value: unknown): boolean {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.values(value).every((id) => Number.isInteger(id) && id >= 0 && id < ID_LIMIT)
  );
}

/** Unigram models list their tokens in the order of their ids, each with its score. */
function isScored(value: unknown): boolean {
  return (
    Array.isArray(value) &&
    value.every(
      (entry) => Array.isArray(entry) && typeof entry[0] === 'string' && typeof entry[1] === 'number',
    )
  );
}

function isMerges(value: unknown): boolean {
  const isToken = (token: unknown): boolean => typeof token === 'string';
  const isPair = (merge: unknown): boolean =>
    Array.isArray(merge) && merge.length === 2 && merge.every(isToken);
  return Array.isArray(value) && value.every((merge) => isToken(merge) || isPair(merge));
}
