import { invariant, randomKey } from '@sluice/core';
import type { SplitName } from './manifest.ts';
import { permute } from './order.ts';
import type { ShardRange, SplitReader } from './splitReader.ts';

export interface SamplerOptions {
  readonly split: SplitName;
  /** Inputs of one sequence, in tokens. */
  readonly sequenceLength: number;
  /** Decides the order of the training split; validation is read in plain order. */
  readonly seed: number;
}

/** Where a sample comes from. */
export interface Provenance {
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
  /** Which tokens of the document, its end-of-text token included. */
  readonly documentStart: number;
  readonly documentEnd: number;
  /** Where they are in what `read` fills. */
  readonly sampleStart: number;
  readonly sampleEnd: number;
}

/**
 * The sequences of a split, addressed by a global index that never ends: sample i is the i-th of the run, whoever
 * reads it. Documents lie back to back, and a sequence begins where the one before ended; each comes once an epoch,
 * and each epoch has an order of its own.
 */
export class Sampler {
  readonly sequenceLength: number;
  /** Sequences in an epoch; the tokens left over at the end of the split are not used. */
  readonly numSequences: number;
  readonly #reader: SplitReader;
  readonly #options: SamplerOptions;

  constructor(reader: SplitReader, options: SamplerOptions) {
    this.#reader = reader;
    this.#options = options;
    this.sequenceLength = options.sequenceLength;
    // The last target of a sequence is the first input of the next, so that one token more is needed in all.
    this.numSequences = Math.floor((reader.tokens - 1) / options.sequenceLength);
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
    this.#reader.read(this.locate(sampleIndex).sequence * this.sequenceLength, target);
  }

  /** The documents and shards that a sample holds, its last target included. */
  provenance(sampleIndex: number): Provenance {
    const { epoch, sequence } = this.locate(sampleIndex);
    const start = sequence * this.sequenceLength;
    const end = start + this.sequenceLength + 1;
    const documents = this.#reader.documentsOf(start, end).map((document) => {
      const from = Math.max(start, document.start);
      const to = Math.min(end, document.end);
      return {
        source: this.#reader.sourceLabel(document.source),
        name: document.name,
        index: document.index,
        documentStart: from - document.start,
        documentEnd: to - document.start,
        sampleStart: from - start,
        sampleEnd: to - start,
      };
    });
    return { epoch, sequence, shards: this.#reader.ranges(start, end), documents };
  }
}
