/** Spelling suggestions: the known word that is nearest to a mistyped one. */

/** Levenshtein distance that counts a swap of neighbours as one edit (optimal string alignment), on UTF-16 units. */
function editDistance(a: string, b: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(substitution, previous[j]! + 1, current[j - 1]! + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, beforePrevious[j - 2]! + 1);
      }
      current.push(best);
    }
    beforePrevious = previous;
    previous = current;
  }
  return previous[b.length]!;
}

/**
 * The candidate nearest to `word`, ignoring case and word separators first, or undefined when none is near enough
 * to be what was meant. Ties go to the earlier candidate.
 */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const fold = (text: string) => text.toLowerCase().replace(/[-_ ]/g, '');
  const folded = fold(word);
  let best: string | undefined;
  // A third of the letters, and at least two, may be wrong; of a word of three letters or less only one: with two edits `foo` is
  // `form`.
  let bestDistance = (folded.length <= 3 ? 1 : Math.max(2, Math.floor(folded.length / 3))) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(folded, fold(candidate));
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}
