/** The parts of Hugging Face's `tokenizer.json` that a byte-level BPE tokenizer consists of. */

import { z } from 'zod';

const Merge = z.union([z.tuple([z.string(), z.string()]), z.string()]);

export const AddedTokenJson = z.looseObject({
  id: z.int().min(0),
  content: z.string().min(1),
  single_word: z.boolean().default(false),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
  normalized: z.boolean().default(false),
  special: z.boolean().default(false),
});

const BpeModelJson = z.looseObject({
  type: z.literal('BPE').default('BPE'),
  vocab: z.record(z.string(), z.int().min(0)),
  merges: z.array(Merge),
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

/** A tokenizer that `ByteLevelTokenizer` implements; every other `tokenizer.json` goes to Hugging Face's library. */
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
  model: z.looseObject({ vocab: z.unknown() }),
});

export type AnyTokenizerJson = z.infer<typeof AnyTokenizerJson>;
export type AddedTokenJson = z.infer<typeof AddedTokenJson>;
