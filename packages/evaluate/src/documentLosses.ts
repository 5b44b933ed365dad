/** What a model thinks of the documents in training samples. */

import type { Provenance, SampleDocument } from '@sluice/data';
import { computation } from '@sluice/engine';
import { type Decoder, validateCudaSizes } from '@sluice/model';
import { readGrain, type TokenSource } from '@sluice/train';

/** A document, or the part of one, in a sample. */
export interface ScoredDocument extends SampleDocument {
  /** The sample's number in the order of the data. */
  readonly sample: number;
  /** The name of its corpus, where that is one of a mixture. */
  readonly corpus?: string | undefined;
  /** Tokens of it that the sample predicts; the first of a sample is not among them. */
  readonly tokens: number;
  /** Their mean cross-entropy, nats a token; null where there are none. */
  readonly loss: number | null;
  /** Its tokens in the sample. */
  readonly ids: Int32Array;
}

/** A sample with what it holds. */
export type LocatedSample = { readonly sample: number } & Pick<Provenance, 'documents' | 'corpus'>;

/**
 * The loss of each document of some samples, highest first. As in training, what comes before a document in its sample is in
 * sight, unless documents are kept apart. Lets signals be handled between samples.
 * @throws SLUICE_E_CUDA_KERNEL
 */
export async function documentLosses(
  decoder: Decoder,
  sampler: TokenSource,
  samples: readonly LocatedSample[],
  onProgress: (done: number) => void = () => {},
): Promise<ScoredDocument[]> {
  validateCudaSizes({ ...computation(), model: decoder.config });
  const scored: ScoredDocument[] = [];
  for (const [i, { sample, corpus, documents }] of samples.entries()) {
    const grain = readGrain(sampler, 0, sample, 1);
    const tokens = Int32Array.of(grain.inputs[0]!, ...grain.targets);
    // Target t is token t + 1.
    const parts = documents.map(({ sampleStart, sampleEnd }) => ({
      begin: Math.max(0, sampleStart - 1),
      end: sampleEnd - 1,
    }));
    const predicted = parts.filter(({ begin, end }) => end > begin);
    const losses = decoder.lossesOf(grain, predicted);
    for (const [d, document] of documents.entries()) {
      const { begin, end } = parts[d]!;
      scored.push({
        ...{ sample, corpus, ...document, tokens: end - begin },
        loss: end > begin ? losses[predicted.indexOf(parts[d]!)]! : null,
        ids: tokens.slice(document.sampleStart, document.sampleEnd),
      });
    }
    onProgress(i + 1);
    await new Promise(setImmediate);
  }
  return scored.sort((a, b) => height(b.loss) - height(a.loss));
}

/** What is not a number is worse than any. */
function height(loss: number | null): number {
  if (loss === null) return Number.NEGATIVE_INFINITY;
  return Number.isNaN(loss) ? Number.MAX_VALUE : Math.min(loss, Number.MAX_VALUE);
}
