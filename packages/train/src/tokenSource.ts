import type { MixtureSampler, Sampler } from '@sluice/data';

/** Sequences of tokens by their number; a `Sampler` of a corpus is one. */
export type TokenSource = Pick<Sampler, 'numSequences' | 'sequenceLength' | 'read'> &
  Partial<Pick<Sampler, 'documentMarks'>> &
  Partial<Pick<MixtureSampler, 'corpora' | 'corpusOf'>>;
