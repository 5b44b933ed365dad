import { invariant, randomKey } from '@sluice/core';
import { BegunDocuments, type TokenStream } from './begunDocuments.ts';
import type { SplitName } from './manifest.ts';
import { permute } from './order.ts';
import type { ShardRange, SplitReader } from './splitReader.ts';

export interface SamplerOptions {
  readonly split: SplitName;
  /** Inputs of one sequence, in tokens. */
  readonly sequenceLength: number;
  /** Decides the order of the training split; validation is read in plain order. */
  readonly seed: number;
  /** Whether a model is to see the documents of a sequence as one text, or each by itself; packed when left out. */
  readonly documents?: 'packed' | 'separate' | undefined;
  /**
   * A token, by its text, that is put before each sequence, or before each document where these are separate; none when left
   * out.
   */
  readonly beginning?: string | undefined;
}

/** How the tokens of a sequence show where a document begins. */
export interface DocumentMarks {
  /** The token that each document ends with. */
  readonly end: number;
  /** The one that each begins with; undefined where there is none. */
  readonly begin: number | undefined;
}

/** Where a sample comes from. */
export interface Provenance {
  /** The name of the corpus, where it is one of a mixture. */
  readonly corpus?: string;
  readonly epoch: number;
  /** Number of the sequence in its split. */
  readonly sequence: number;
  readonly shards: readonly ShardRange[];
  readonly documents: readonly SampleDocument[];
}

/** A document, or the part of one, that a sample holds. Ranges are of tokens, the end excluded. */
export interface SampleDocument {
  readonly source: string;
  readonly name: string;
  /** Number of the document in its split. */
  readonly index: number;
  /** Which tokens of the document, its end-of-text token included, and its beginning token where each document has one. */
  readonly documentStart: number;
  readonly documentEnd: number;
  /** Where they are in what `read` fills. */
  readonly sampleStart: number;
  readonly sampleEnd: number;
}

/**
 * The sequences of a split, addressed by a global index that never ends: sample i is the i-th of the run, whoever
 * reads it. Documents lie back to back, and a sequence begins where the one before ended; each comes once an epoch,
 * and each epoch has an order of its own. Every token but the first is the target of one place in an epoch; where each
 * sequence has a beginning token, that one predicts the first.
 */
export class Sampler {
  readonly sequenceLength: number;
  /** Sequences in an epoch; the tokens left over at the end of the split are not used. */
  readonly numSequences: number;
  /** Undefined where documents are packed. */
  readonly documentMarks: DocumentMarks | undefined;
  readonly #reader: SplitReader;
  readonly #stream: TokenStream;
  /** What stands before the stream's tokens in a sample. */
  readonly #lead: readonly number[];
  readonly #options: SamplerOptions;

  /** @param marks ids of the token that each document ends with, and of `options.beginning` */
  constructor(reader: SplitReader, marks: DocumentMarks, options: SamplerOptions) {
    const { sequenceLength, documents = 'packed' } = options;
    this.#reader = reader;
    this.#options = options;
    this.sequenceLength = sequenceLength;
    const isSeparate = documents === 'separate';
    this.documentMarks = isSeparate ? marks : undefined;
    const { begin } = marks;
    this.#stream = isSeparate && begin !== undefined ? new BegunDocuments(reader, begin) : reader;
    this.#lead = isSeparate || begin === undefined ? [] : [begin];
    // Without a lead, the last target of a sequence is the first input of the next, so that one token more is needed in all.
    const needed = this.#stream.tokens - (1 - this.#lead.length);
    this.numSequences = Math.max(0, Math.floor(needed / sequenceLength));
  }

  /** Which sequence of the split a sample is, in constant time. */
  locate(sampleIndex: number): { epoch: number; sequence: number } {
    invariant(Number.isSafeInteger(sampleIndex) && sampleIndex >= 0, `sample index ${sampleIndex}`);
    const { split, seed } = this.#options;
    const epoch = Math.floor(sampleIndex / this.numSequences);
    const place = sampleIndex % this.numSequences;
    if (split === 'validation') return { epoch, sequence: place };
    return { epoch, sequence: permute(randomKey(seed, 'order', epoch), this.numSequences, place) };
  }

  /**
   * Reads a sample: inputs are `target[0…L)`, and the targets that they are to predict `target[1…L]`.
   * @param target L + 1 tokens
   */
  read(sampleIndex: number, target: Int32Array): void {
    invariant(target.length === this.sequenceLength + 1, `a target of ${target.length} tokens`);
    const start = this.locate(sampleIndex).sequence * this.sequenceLength;
    target.set(this.#lead);
    this.#stream.read(start, target.subarray(this.#lead.length));
  }

  /** The documents and shards that a sample holds, its last target included. */
  provenance(sampleIndex: number): Provenance {
    const { epoch, sequence } = this.locate(sampleIndex);
    const start = sequence * this.sequenceLength;
    const lead = this.#lead.length;
    const end = start + this.sequenceLength + 1 - lead;
    const documents = this.#stream.documentsOf(start, end).map((document) => {
      const from = Math.max(start, document.start);
      const to = Math.min(end, document.end);
      return {
        source: this.#reader.sourceLabel(document.source),
        name: document.name,
        index: document.index,
        documentStart: from - document.start,
        documentEnd: to - document.start,
        sampleStart: from - start + lead,
        sampleEnd: to - start + lead,
      };
    });
    return { epoch, sequence, shards: this.#stream.ranges(start, end), documents };
  }
}
