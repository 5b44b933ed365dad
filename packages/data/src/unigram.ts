import { elementary } from '@sluice/core';
import type { SplitName } from './manifest.ts';

/** Counts tokens of both splits, for the loss of the simplest model: one that knows the frequencies of tokens only. */
export class UnigramCounter {
  readonly #counts: Readonly<Record<SplitName, Float64Array>>;

  constructor(vocabularySize: number) {
    this.#counts = { train: new Float64Array(vocabularySize), validation: new Float64Array(vocabularySize) };
  }

  add(split: SplitName, tokens: readonly number[]): void {
    const counts = this.#counts[split];
    for (let i = 0; i < tokens.length; i++) counts[tokens[i]!]!++;
  }

  /**
   * Cross-entropy in nats a token, on the validation split, of the training split's frequencies with add-one
   * smoothing: −Σ_v n_v ln((m_v + 1) / (M + V)) / N. Null without a validation split. It is part of the manifest, whose
   * hash names the corpus, so its bits must be the same on every engine.
   */
  loss(): number | null {
    const { train, validation } = this.#counts;
    const total = validation.reduce((sum, count) => sum + count, 0);
    if (total === 0) return null;
    const denominator = train.reduce((sum, count) => sum + count, 0) + train.length;
    return (
      validation.reduce((sum, count, id) => sum - count * elementary.log((train[id]! + 1) / denominator), 0) /
      total
    );
  }
}
