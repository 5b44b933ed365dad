import type { DataConfig } from './config.ts';
import { MixtureOrder, type MixturePhase } from './mixture.ts';
import type { DocumentMarks, Provenance, Sampler } from './sampler.ts';

/** A corpus of a run, as samples are read from it. */
export interface MixedCorpus {
  /** The name of its recipe. */
  readonly name: string;
  readonly sampler: Sampler;
}

/** The sequences of several corpora, mixed by weights; addressed as those of a `Sampler` are. */
export class MixtureSampler {
  readonly sequenceLength: number;
  /** Sequences of all corpora. */
  readonly numSequences: number;
  readonly documentMarks: DocumentMarks | undefined;
  /** Names of the corpora. */
  readonly corpora: readonly string[];
  readonly #samplers: readonly Sampler[];
  readonly #order: MixtureOrder;

  constructor(corpora: readonly MixedCorpus[], phases: readonly MixturePhase[], seed: number) {
    this.corpora = corpora.map(({ name }) => name);
    this.#samplers = corpora.map(({ sampler }) => sampler);
    const [first] = this.#samplers;
    this.sequenceLength = first!.sequenceLength;
    this.documentMarks = first!.documentMarks;
    this.numSequences = this.#samplers.reduce((sum, { numSequences }) => sum + numSequences, 0);
    this.#order = new MixtureOrder(phases, seed);
  }

  /** Number of the corpus that a sample is of. */
  corpusOf(sampleIndex: number): number {
    return this.#order.locate(sampleIndex).corpus;
  }

  /** Reads a sample as `Sampler.read` does. */
  read(sampleIndex: number, target: Int32Array): void {
    const { corpus, index } = this.#order.locate(sampleIndex);
    this.#samplers[corpus]!.read(index, target);
  }

  /** The corpus, documents and shards that a sample holds. */
  provenance(sampleIndex: number): Provenance {
    const { corpus, index } = this.#order.locate(sampleIndex);
    return { corpus: this.corpora[corpus]!, ...this.#samplers[corpus]!.provenance(index) };
  }
}

/** The phases of a mixture that a configuration describes. A phase begins with the first sequence that begins at its tokens or later. */
export function mixturePhases({ mixture, sequenceLength }: DataConfig): MixturePhase[] {
  const { weights, schedule } = mixture!;
  const later = schedule.map(({ fromTokens, weights }) => ({
    firstSample: Math.ceil(fromTokens / sequenceLength),
    weights,
  }));
  return [{ firstSample: 0, weights }, ...later];
}
