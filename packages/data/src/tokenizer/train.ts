/**
 * Training of a byte-level BPE vocabulary (Sennrich et al. 2016; byte alphabet of GPT-2).
 *
 * The most frequent pair of neighbouring tokens becomes a token, again and again. Pair counts are kept up to date by
 * visiting only the words that hold the merged pair; a heap with lazy updates gives the next pair. The order of
 * merges, ties included, is that of Hugging Face's `BpeTrainer`: larger count first, then the smaller pair of ids.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { BYTE_TO_CHARACTER } from './byteLevel.ts';
import { Heap } from './heap.ts';
import type { BpeTokenizerJson } from './json.ts';
import { WORD_PATTERN } from './wordPatterns.ts';

export interface TrainTokenizerOptions {
  /** Tokens wanted, the 256 bytes and the end-of-text token among them. */
  readonly vocabularySize: number;
  /** A pair that is seen less often makes no token; the vocabulary may then stay smaller than wanted. */
  readonly minimumFrequency?: number;
  /** The special token that separates documents; it gets id 0. */
  readonly endOfText?: string;
  readonly signal?: AbortSignal | undefined;
}

interface Candidate {
  readonly left: number;
  readonly right: number;
  count: number;
}

/** Pairs of ids are keyed by one number. */
const ID_LIMIT = 2 ** 24;
const pairKey = (left: number, right: number): number => left * ID_LIMIT + right;

/** Merges between two turns of the event loop, so that a signal is seen soon. */
const MERGES_A_TURN = 32;

/**
 * Trains a tokenizer on words, as `forEachWord` cuts them with `WORD_PATTERN`, with their counts.
 * @returns the contents of a `tokenizer.json`
 */
export async function trainTokenizer(
  words: ReadonlyMap<string, number>,
  options: TrainTokenizerOptions,
): Promise<BpeTokenizerJson> {
  const { vocabularySize, minimumFrequency = 2, endOfText = '<|endoftext|>', signal } = options;
  const tokens = [endOfText, ...[...BYTE_TO_CHARACTER].sort()];
  const idOfToken = new Map(tokens.map((token, id) => [token, id]));
  const state = new MergeState(words, idOfToken);
  const merges: [string, string][] = [];
  while (tokens.length < vocabularySize) {
    if (merges.length % MERGES_A_TURN === 0) await nextTurn();
    signal?.throwIfAborted();
    const best = state.takeBest();
    if (best === undefined || best.count < Math.max(1, minimumFrequency)) break;
    const [left, right] = [tokens[best.left]!, tokens[best.right]!];
    // Two different pairs can spell the same token; it then keeps its first id.
    let id = idOfToken.get(left + right);
    if (id === undefined) {
      id = tokens.push(left + right) - 1;
      idOfToken.set(left + right, id);
    }
    merges.push([left, right]);
    state.merge(best.left, best.right, id);
  }
  return tokenizerJson(idOfToken, merges, endOfText);
}

/** The words as sequences of ids, with the count of each pair and the words that may hold it. */
class MergeState {
  readonly #words: number[][] = [];
  readonly #wordCounts: number[] = [];
  readonly #pairCounts = new Map<number, number>();
  readonly #wordsOfPair = new Map<number, number[]>();
  readonly #queue = new Heap<Candidate>(
    (a, b) =>
      a.count > b.count ||
      (a.count === b.count && (a.left < b.left || (a.left === b.left && a.right < b.right))),
  );

  constructor(words: ReadonlyMap<string, number>, idOfToken: ReadonlyMap<string, number>) {
    const idOfByte = BYTE_TO_CHARACTER.map((character) => idOfToken.get(character)!);
    for (const [word, count] of words) {
      const symbols = Array.from(Buffer.from(word), (byte) => idOfByte[byte]!);
      const index = this.#words.push(symbols) - 1;
      this.#wordCounts.push(count);
      for (let i = 1; i < symbols.length; i++) this.#count(symbols[i - 1]!, symbols[i]!, count, index);
    }
    for (const [key, count] of this.#pairCounts) {
      this.#queue.push({ left: Math.floor(key / ID_LIMIT), right: key % ID_LIMIT, count });
    }
  }

  /** The most frequent pair. Counts in the queue may be stale; a stale candidate goes back with its true count. */
  takeBest(): Candidate | undefined {
    for (let top = this.#queue.pop(); top !== undefined; top = this.#queue.pop()) {
      const count = this.#pairCounts.get(pairKey(top.left, top.right)) ?? 0;
      if (count === top.count) return top;
      top.count = count;
      if (count > 0) this.#queue.push(top);
    }
    return undefined;
  }

  /** Replaces the pair by `id` in every word and corrects the counts around it. */
  merge(left: number, right: number, id: number): void {
    const holders = this.#wordsOfPair.get(pairKey(left, right)) ?? [];
    const grown = new Map<number, Candidate>();
    for (const index of holders) this.#mergeWord(index, left, right, id, grown);
    this.#wordsOfPair.delete(pairKey(left, right));
    this.#pairCounts.delete(pairKey(left, right));
    for (const [key, candidate] of grown) {
      candidate.count = this.#pairCounts.get(key) ?? 0;
      if (candidate.count > 0) this.#queue.push(candidate);
    }
  }

  #mergeWord(index: number, left: number, right: number, id: number, grown: Map<number, Candidate>): void {
    const symbols = this.#words[index]!;
    const count = this.#wordCounts[index]!;
    const grow = (a: number, b: number): void => {
      this.#count(a, b, count, index);
      grown.set(pairKey(a, b), { left: a, right: b, count: 0 });
    };
    let write = 0;
    for (let read = 0; read < symbols.length; read++) {
      if (symbols[read] !== left || symbols[read + 1] !== right) {
        symbols[write++] = symbols[read]!;
        continue;
      }
      if (write > 0) {
        this.#count(symbols[write - 1]!, left, -count, index);
        grow(symbols[write - 1]!, id);
      }
      const after = symbols[read + 2];
      if (after !== undefined) {
        this.#count(right, after, -count, index);
        grow(id, after);
      }
      symbols[write++] = id;
      read++;
    }
    symbols.length = write;
  }

  #count(left: number, right: number, change: number, word: number): void {
    const key = pairKey(left, right);
    this.#pairCounts.set(key, (this.#pairCounts.get(key) ?? 0) + change);
    if (change < 0) return;
    const holders = this.#wordsOfPair.get(key);
    if (holders === undefined) this.#wordsOfPair.set(key, [word]);
    else if (holders.at(-1) !== word) holders.push(word);
  }
}

function tokenizerJson(
  idOfToken: ReadonlyMap<string, number>,
  merges: [string, string][],
  endOfText: string,
): BpeTokenizerJson {
  const byteLevel = {
    type: 'ByteLevel',
    add_prefix_space: false,
    trim_offsets: false,
    use_regex: false,
  } as const;
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [
      {
        id: 0,
        content: endOfText,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      },
    ],
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: WORD_PATTERN }, behavior: 'Isolated', invert: false },
        byteLevel,
      ],
    },
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(idOfToken),
      merges,
    },
  };
}
