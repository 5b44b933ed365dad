/** How byte-level BPE cuts text into words before it merges bytes. */

import { UNICODE_CLASSES } from './unicodeClasses.ts';

/**
 * The pattern of tokenizers trained here. It is Qwen's, with marks kept with their letters, contractions spelt out, and the
 * Unicode property in place of `\s`, which does not mean the same in every regular expression engine; so every reader of the
 * `tokenizer.json` cuts alike.
 */
export const WORD_PATTERN = [
  "'(?:[sdmtSDMT]|[lL][lL]|[vV][eE]|[rR][eE])",
  String.raw`[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+`,
  String.raw`\p{N}`,
  String.raw` ?[^\p{White_Space}\p{L}\p{M}\p{N}]+[\r\n]*`,
  String.raw`\p{White_Space}*[\r\n]+`,
  String.raw`\p{White_Space}+(?!\P{White_Space})`,
  String.raw`\p{White_Space}+`,
].join('|');

/** GPT-2's pattern, which Hugging Face's `ByteLevel` pre-tokenizer uses when its `use_regex` is set. */
export const GPT2_PATTERN = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

const CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";

const cl100k = (number: string): string =>
  String.raw`${CONTRACTION}|[^\r\n\p{L}\p{N}]?\p{L}+|${number}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;

/** Words that change to lower case only once, as of GPT-4o on. */
const O200K_PATTERN = [
  String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+${CONTRACTION}?`,
  String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*${CONTRACTION}?`,
  String.raw`\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
].join('|');

/**
 * The patterns that the tests hold against Hugging Face's library, and no others: regular expressions of JavaScript and of
 * that library differ in what `\w`, `\d`, `\b`, `^` and more mean.
 */
const KNOWN_PATTERNS: Readonly<Record<string, string>> = {
  sluice: WORD_PATTERN,
  gpt2: GPT2_PATTERN,
  llama3: cl100k(String.raw`\p{N}{1,3}`),
  qwen: cl100k(String.raw`\p{N}`),
  o200k: O200K_PATTERN,
};

/** The JavaScript expression that cuts as a known pattern does; null for any other pattern. */
export function compilePattern(pattern: string): RegExp | null {
  if (!Object.values(KNOWN_PATTERNS).includes(pattern)) return null;
  const withoutFlags = pattern.replace(/\(\?i:([^()]*)\)/g, (_, group: string) => `(?:${ignoreCase(group)})`);
  let inClass = false;
  const source = withoutFlags.replace(/[[\]]|\\[sS]|\\[pP]\{(\w+)\}/g, (atom, property = 'White_Space') => {
    if (atom === '[' || atom === ']') {
      inClass = atom === '[';
      return atom;
    }
    const characters = UNICODE_CLASSES[property]!;
    if (inClass) return characters;
    return /^\\[SP]/.test(atom) ? `[^${characters}]` : `[${characters}]`;
  });
  return new RegExp(source, 'gu');
}

function ignoreCase(group: string): string {
  // U+017F is the one other character that folds to an English contraction's letter.
  return group.replace(/[a-z]/gi, (letter) => {
    const [lower, upper] = [letter.toLowerCase(), letter.toUpperCase()];
    return `[${lower}${upper}${lower === 's' ? '\u017f' : ''}]`;
  });
}

/** Calls `visit` with each word of the text, in order; what the pattern does not match between words is a word too. */
export function forEachWord(pattern: RegExp, text: string, visit: (word: string) => void): void {
  let end = 0;
  pattern.lastIndex = 0;
  for (let match = pattern.exec(text); match !== null; match = pattern.exec(text)) {
    const word = match[0];
    if (word.length === 0) {
      pattern.lastIndex++;
      continue;
    }
    if (match.index > end) visit(text.slice(end, match.index));
    visit(word);
    end = match.index + word.length;
  }
  if (end < text.length) visit(text.slice(end));
}
