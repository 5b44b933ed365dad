/** What the rest of Sluice knows of a tokenizer. */
export interface Tokenizer {
  /** One more than the largest token id; the embedding needs at least as many rows. */
  readonly vocabularySize: number;
  /** The token that ends a document. */
  readonly endOfTextId: number;
  /** Ids of the text; special tokens written out in it are recognised, as Hugging Face's `encode` does. */
  encode(text: string): number[];
  /** Ids of the text as it stands: what looks like a special token is plain text. For corpora. */
  encodeOrdinary(text: string): number[];
  /** The text of the ids. Bytes that are not UTF-8, such as a character's first half, become U+FFFD. */
  decode(ids: ArrayLike<number>): string;
  /** The bytes of the ids, exactly. */
  decodeBytes(ids: ArrayLike<number>): Uint8Array;
}
