import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import type { AnyTokenizerJson } from './json.ts';
import type { Tokenizer } from './tokenizer.ts';

/** Any `tokenizer.json`, through Hugging Face's own library: slower, and as exact as that tokenizer's decoder is. */
export class LibraryTokenizer implements Tokenizer {
  readonly vocabularySize: number;
  readonly endOfTextId: number;
  readonly #full: HuggingFaceTokenizer;
  readonly #ordinary: HuggingFaceTokenizer;

  constructor(json: AnyTokenizerJson, endOfTextId: number) {
    this.endOfTextId = endOfTextId;
    this.#full = new HuggingFaceTokenizer(json, {});
    // A tokenizer that has never heard of the special tokens reads their names as plain text.
    const added = json.added_tokens.filter((token) => !token.special);
    this.#ordinary = new HuggingFaceTokenizer({ ...json, added_tokens: added }, {});
    this.vocabularySize = 1 + Math.max(...json.added_tokens.map(({ id }) => id), largestId(json.model.vocab));
  }

  encode(text: string): number[] {
    return this.#full.encode(text, { add_special_tokens: false }).ids;
  }

  encodeOrdinary(text: string): number[] {
    return this.#ordinary.encode(text, { add_special_tokens: false }).ids;
  }

  decode(ids: ArrayLike<number>): string {
    return this.#full.decode(Array.from(ids), {
      skip_special_tokens: false,
      clean_up_tokenization_spaces: false,
    });
  }

  decodeBytes(ids: ArrayLike<number>): Uint8Array {
    return Buffer.from(this.decode(ids));
  }
}

/** Vocabularies are a table from token to id, or, for unigram models, a list. */
function largestId(vocab: unknown): number {
  if (Array.isArray(vocab)) return vocab.length - 1;
  return Object.values(vocab as Record<string, number>).reduce((most, id) => Math.max(most, id), 0);
}
