/**
 * What Hugging Face's library is to be given in place of a `tokenizer.json`, so that it encodes texts whole, corpora without
 * control tokens, and takes no id twice.
 */

import { isDeepStrictEqual } from 'node:util';
import { type AnyTokenizerJson, modelTokens } from './json.ts';

/**
 * `full`: special tokens in a text are recognised. `ordinary`: they are plain text. `corpus`: the same, and what the
 * tokenizer has no token for is seen. `continuation`: the same for what goes on with a document, before which nothing is put.
 */
export type Variant = 'full' | 'ordinary' | 'corpus' | 'continuation';

/** Begins the tokens that are put in; no text spells them. */
const UNSPELT = '\u{10fffe}\u{10ffff}';

/** The token for what a BPE model without an unknown token would leave out. */
export const LOST = `${UNSPELT}lost`;

export function variantOf(json: AnyTokenizerJson, variant: Variant): AnyTokenizerJson {
  // Truncation cuts texts off, padding fills them up: neither is for corpora.
  const whole = { ...json, truncation: null, padding: null };
  if (variant === 'full') return withoutGaps(whole);
  const ordinary = withoutSpecialTokens(whole);
  if (variant === 'ordinary') return withoutGaps(ordinary);
  const corpus = withoutGaps(withLostToken(ordinary));
  return variant === 'continuation' ? withoutPrepended(corpus) : corpus;
}

/** The variant for what goes on with a document: that of its beginning, where the tokenizer puts nothing before a text. */
export function continuationVariant(json: AnyTokenizerJson): Variant {
  return isDeepStrictEqual(withoutPrepended(json).normalizer, json.normalizer) ? 'corpus' : 'continuation';
}

/** Others put a space before a text only if it begins with none; parts of documents are cut where it does. */
function withoutPrepended(json: AnyTokenizerJson): AnyTokenizerJson {
  return { ...json, normalizer: withoutPrepend(json.normalizer as NormalizerJson) };
}

type NormalizerJson = { type?: string; normalizers?: NormalizerJson[] } | null | undefined;

function withoutPrepend(normalizer: NormalizerJson): NormalizerJson {
  if (normalizer?.type === 'Prepend') return null;
  if (normalizer?.normalizers === undefined) return normalizer;
  const normalizers = normalizer.normalizers.map(withoutPrepend).filter((one) => one != null);
  return { ...normalizer, normalizers };
}

/** A tokenizer that has never heard of the special tokens reads their names as plain text. */
function withoutSpecialTokens(json: AnyTokenizerJson): AnyTokenizerJson {
  const special = json.added_tokens.filter((token) => token.special).map(({ content }) => content);
  return {
    ...json,
    added_tokens: json.added_tokens.filter((token) => !token.special),
    model: { ...json.model, vocab: vocabularyWithout(new Set(special), json) },
  };
}

/**
 * The vocabulary without some tokens, where the model finds whole tokens in a text by itself. BPE reaches a token only by its
 * merges. The token for what is unknown stays.
 */
function vocabularyWithout(
  tokens: ReadonlySet<string>,
  { model }: AnyTokenizerJson,
): AnyTokenizerJson['model']['vocab'] {
  const { vocab } = model;
  // A unigram model's ids are places in its list.
  if (Array.isArray(vocab)) {
    return vocab.map(([token, score], id) => [
      tokens.has(token) && id !== model.unk_id ? UNSPELT + id : token,
      score,
    ]);
  }
  if (model.type !== 'WordLevel' && model.type !== 'WordPiece') return vocab;
  const kept = Object.entries(vocab).filter(([token]) => !tokens.has(token) || token === model.unk_token);
  return Object.fromEntries(kept);
}

/** BPE leaves out what it has no token for, unless it has one for that. The other models refuse it themselves. */
function withLostToken(json: AnyTokenizerJson): AnyTokenizerJson {
  const { model } = json;
  if (Array.isArray(model.vocab) || model.unk_token != null || !isBpe(model)) return json;
  const vocab = { ...model.vocab, [LOST]: firstFreeId(json) };
  return { ...json, model: { ...model, vocab, unk_token: LOST } };
}

/** Old files do not name the kind of their model. */
function isBpe(model: AnyTokenizerJson['model']): boolean {
  return model.type === 'BPE' || (model.type === undefined && 'merges' in model);
}

/** The library numbers added tokens from the size of the vocabulary on, so that beyond a gap it would take ids twice. */
function withoutGaps(json: AnyTokenizerJson): AnyTokenizerJson {
  const { model } = json;
  if (Array.isArray(model.vocab)) return json;
  const taken = new Set(Object.values(model.vocab));
  const free = Array.from({ length: firstFreeId(json) }, (_, id) => id).filter((id) => !taken.has(id));
  if (free.length === 0) return json;
  const fillers = Object.fromEntries(free.map((id) => [UNSPELT + id, id]));
  return { ...json, model: { ...model, vocab: { ...model.vocab, ...fillers } } };
}

function firstFreeId(json: AnyTokenizerJson): number {
  return 1 + modelTokens(json).reduce((most, [, id]) => Math.max(most, id), -1);
}
