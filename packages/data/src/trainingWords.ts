import { readDocuments, type SplitPart } from './documents.ts';
import type { DataRecipe } from './recipe.ts';
import type { IntakeCounts, TextSourceReader } from './sources/source.ts';
import { compilePattern, forEachWord, WORD_PATTERN } from './tokenizer/wordPatterns.ts';

/** The tokenizer is trained on at most so many times the wanted sample, where the corpus's size was guessed too small. */
const SAMPLE_LIMIT = 4;

export interface TrainingWords {
  /** How often each word occurs. */
  readonly words: Map<string, number>;
  /** Whether all text was read, and not broken off where the sample had grown too large. */
  readonly isWhole: boolean;
}

interface CountingOptions {
  readonly signal: AbortSignal | undefined;
  readonly counts: readonly IntakeCounts[];
  readonly onPart: (part: SplitPart) => void;
}

/**
 * Counts the words of the training split, or of a sample of its documents where it is larger than `sampleBytes`.
 * Memory is bounded by the sample.
 * @param totalBytes estimated size of all text
 * @param counts of each source, to which is added what is left out
 */
export async function countTrainingWords(
  sources: readonly TextSourceReader[],
  recipe: DataRecipe,
  { sampleBytes, totalBytes }: { sampleBytes: number; totalBytes: number },
  { signal, counts, onPart }: CountingOptions,
): Promise<TrainingWords> {
  const share = sampleBytes / Math.max(totalBytes, 1);
  const pattern = compilePattern(WORD_PATTERN)!;
  const words = new Map<string, number>();
  let taken = 0;
  for await (const part of readDocuments(sources, recipe.validation, signal, counts)) {
    onPart(part);
    if (part.split !== 'train' || part.lot >= share) continue;
    forEachWord(pattern, part.text, (word) => words.set(word, (words.get(word) ?? 0) + 1));
    taken += part.bytes;
    if (taken > SAMPLE_LIMIT * sampleBytes) return { words, isWhole: false };
  }
  return { words, isWhole: true };
}
