import { BpeEncoder, type MergeTable } from './bpe.ts';
import { BYTE_TO_CHARACTER, compilePattern, forEachWord, GPT2_PATTERN, tokenBytes } from './byteLevel.ts';
import type { AddedTokenJson, BpeTokenizerJson } from './json.ts';
import type { Tokenizer } from './tokenizer.ts';

/**
 * Byte-level BPE with a cache of words: the fast path for corpora, equal in its ids to Hugging Face's tokenizers.
 * Without a normalizer, decoding gives back every UTF-8 text exactly; lone surrogates become U+FFFD.
 */
export class ByteLevelTokenizer implements Tokenizer {
  readonly vocabularySize: number;
  readonly endOfTextId: number;
  readonly #pattern: RegExp;
  readonly #encoder: BpeEncoder;
  readonly #bytesOfId: (Uint8Array | undefined)[];
  readonly #addedIds: ReadonlyMap<string, number>;
  readonly #anyAdded: RegExp | null;
  readonly #ordinaryAdded: RegExp | null;
  readonly #composes: boolean;

  /**
   * The tokenizer that the file describes, or null when it asks for something that only Hugging Face's library does.
   * @throws SyntaxError for a pattern that JavaScript cannot express
   */
  static from(json: BpeTokenizerJson, endOfTextId: number): ByteLevelTokenizer | null {
    const { model, added_tokens: added, pre_tokenizer: pre } = json;
    const byteLevel = pre.type === 'Sequence' ? pre.pretokenizers[1] : pre;
    const plain =
      !model.dropout &&
      !model.continuing_subword_prefix &&
      !model.end_of_word_suffix &&
      !model.byte_fallback &&
      !byteLevel.add_prefix_space &&
      byteLevel.use_regex === (pre.type === 'ByteLevel') &&
      added.every((token) => !token.single_word && !token.lstrip && !token.rstrip) &&
      BYTE_TO_CHARACTER.every((character) => model.vocab[character] !== undefined);
    const table = plain ? mergeTable(json) : null;
    return table && new ByteLevelTokenizer(json, table, endOfTextId);
  }

  private constructor(json: BpeTokenizerJson, table: MergeTable, endOfTextId: number) {
    const { model, added_tokens: added, pre_tokenizer: pre, normalizer } = json;
    this.vocabularySize = table.size;
    this.endOfTextId = endOfTextId;
    this.#pattern = compilePattern(
      pre.type === 'Sequence' ? pre.pretokenizers[0].pattern.Regex : GPT2_PATTERN,
    );
    this.#encoder = new BpeEncoder(table);
    this.#composes = normalizer !== null;
    this.#bytesOfId = new Array(table.size);
    for (const [token, id] of Object.entries(model.vocab)) this.#bytesOfId[id] = tokenBytes(token);
    for (const { id, content } of added) this.#bytesOfId[id] = Buffer.from(content);
    this.#addedIds = new Map(added.map(({ id, content }) => [content, id]));
    this.#anyAdded = alternatives(added);
    this.#ordinaryAdded = alternatives(added.filter((token) => !token.special));
  }

  encode(text: string): number[] {
    return this.#encodeAround(text, this.#anyAdded);
  }

  encodeOrdinary(text: string): number[] {
    return this.#encodeAround(text, this.#ordinaryAdded);
  }

  decode(ids: ArrayLike<number>): string {
    return Buffer.from(this.decodeBytes(ids)).toString('utf8');
  }

  decodeBytes(ids: ArrayLike<number>): Uint8Array {
    const parts: Uint8Array[] = [];
    for (let i = 0; i < ids.length; i++) {
      const bytes = this.#bytesOfId[ids[i]!];
      if (bytes === undefined) throw new RangeError(`The tokenizer has no token with id ${ids[i]}.`);
      parts.push(bytes);
    }
    return Buffer.concat(parts);
  }

  #encodeAround(text: string, added: RegExp | null): number[] {
    const ids: number[] = [];
    const encodeWord = (word: string): void => this.#encoder.encodeWord(word, ids);
    const encodePlain = (plain: string): void =>
      forEachWord(this.#pattern, this.#composes ? plain.normalize('NFC') : plain, encodeWord);
    let end = 0;
    for (const match of added === null ? [] : text.matchAll(added)) {
      encodePlain(text.slice(end, match.index));
      ids.push(this.#addedIds.get(match[0])!);
      end = match.index + match[0].length;
    }
    encodePlain(end === 0 ? text : text.slice(end));
    return ids;
  }
}

/** The ranks of the merges in numbers, or null when a merge names a token that the vocabulary lacks. */
function mergeTable({ model, added_tokens: added }: BpeTokenizerJson): MergeTable | null {
  const { vocab, merges } = model;
  const size = 1 + Math.max(...added.map(({ id }) => id), largest(Object.values(vocab)));
  const ranks = new Map<number, number>();
  const results = new Int32Array(merges.length);
  for (const [rank, merge] of merges.entries()) {
    const [left, right] = typeof merge === 'string' ? merge.split(' ') : merge;
    if (left === undefined || right === undefined) return null;
    const [leftId, rightId, id] = [vocab[left], vocab[right], vocab[left + right]];
    if (leftId === undefined || rightId === undefined || id === undefined) return null;
    ranks.set(leftId * size + rightId, rank);
    results[rank] = id;
  }
  const byteIds = Int32Array.from(BYTE_TO_CHARACTER, (character) => vocab[character]!);
  return { size, ranks, results, byteIds, wholeWords: model.ignore_merges ? wholeWords(vocab) : null };
}

function wholeWords(vocab: Readonly<Record<string, number>>): Map<string, number> {
  const words = new Map<string, number>();
  for (const [token, id] of Object.entries(vocab)) {
    const bytes = tokenBytes(token);
    if (bytes === undefined) continue;
    const word = Buffer.from(bytes).toString('utf8');
    // A token that holds part of a character spells no word.
    if (Buffer.from(word).equals(bytes)) words.set(word, id);
  }
  return words;
}

function largest(values: readonly number[]): number {
  return values.reduce((most, value) => Math.max(most, value), 0);
}

/** A pattern that finds the leftmost, longest of the tokens. */
function alternatives(tokens: readonly AddedTokenJson[]): RegExp | null {
  if (tokens.length === 0) return null;
  const contents = tokens.map(({ content }) => content).sort((a, b) => b.length - a.length);
  return new RegExp(contents.map((content) => content.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')).join('|'), 'g');
}
