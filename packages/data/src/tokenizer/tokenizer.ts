/** What the rest of Sluice knows of a tokenizer. */
export interface Tokenizer {
  /** One more than the largest token id; the embedding needs at least as many rows. */
  readonly vocabularySize: number;
  /** The token that ends a document. */
  readonly endOfTextId: number;
  /** What a user should know of how the file was read, one sentence each. */
  readonly notes: readonly string[];
  /**
   * Ids of the text; special tokens written out in it are recognised. What the tokenizer has no token for is treated as
   * Hugging Face's library treats it.
   * @throws SluiceError SLUICE_E_TOKENIZER_TEXT for a text that the library refuses; SLUICE_E_TOKENIZER_INVALID for a model
   *   that it refuses, which shows at the first text
   */
  encode(text: string): number[];
  /**
   * Ids of the text as it stands: what looks like a special token is plain text.
   * @throws the errors of `encode`
   */
  encodeOrdinary(text: string): number[];
  /**
   * The ids of `encodeOrdinary` for many texts at once, faster where there are several cores. No part of a text is lost.
   * @throws the errors of `encode`; SLUICE_E_TOKENIZER_TEXT also for a text with something that the tokenizer has no token for
   */
  encodeCorpus(texts: readonly CorpusText[]): Promise<number[][]>;
  /**
   * The text of the ids. Bytes that are not UTF-8, such as a character's first half, become U+FFFD; an id without a token
   * is shown as `unusedToken` writes it.
   */
  decode(ids: ArrayLike<number>): string;
}

export interface CorpusText {
  /** Whose text it is, for messages. */
  readonly name: string;
  readonly text: string;
  /** False for what goes on with the document of an earlier text: nothing is put before it. */
  readonly first?: boolean;
}

/** How an id is shown that no token has: there may be gaps between a tokenizer's ids, and a model may have more rows. */
export function unusedToken(id: number): string {
  return `<|unused ${id}|>`;
}

/**
 * The text that `ids` add to that of `before`. Some tokenizers write a token otherwise at the beginning of a text, without
 * its space for instance, so that it is not always what `decode` gives for `ids` alone.
 */
export function decodeContinuation(
  tokenizer: Tokenizer,
  before: readonly number[],
  ids: readonly number[],
): string {
  const head = tokenizer.decode(before);
  const whole = tokenizer.decode([...before, ...ids]);
  return whole.startsWith(head) ? whole.slice(head.length) : tokenizer.decode(ids);
}
