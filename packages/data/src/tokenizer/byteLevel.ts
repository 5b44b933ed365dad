/** What byte-level BPE does before its merges: text is cut into words, and bytes are written as printable characters. */

/**
 * The pattern that cuts text into words, in tokenizers trained here. It is Qwen's, with marks kept with their letters,
 * contractions spelt out, and the Unicode property in place of `\s`, which does not mean the same in every regular
 * expression engine; so every reader of the `tokenizer.json` cuts alike.
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

/**
 * Turns a pattern of a `tokenizer.json` (Rust flavour) into a JavaScript one with the same meaning.
 * Understands what byte-level tokenizers use: `\s`, and `(?i:…)` around plain letters.
 * @throws SyntaxError for a pattern that JavaScript has no equivalent for
 */
export function compilePattern(pattern: string): RegExp {
  const source = pattern
    .replace(/\(\?i:([^()[\]\\]*)\)/g, (_, group: string) => `(?:${ignoreCase(group)})`)
    .replaceAll(String.raw`\s`, String.raw`\p{White_Space}`)
    .replaceAll(String.raw`\S`, String.raw`\P{White_Space}`);
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

/** GPT-2's printable stand-in for each byte: itself where it is visible in Latin-1, else a character from U+0100 on. */
export const BYTE_TO_CHARACTER: readonly string[] = byteCharacters();

/** The byte that a stand-in character means. */
const CHARACTER_TO_BYTE: ReadonlyMap<string, number> = new Map(
  BYTE_TO_CHARACTER.map((character, byte) => [character, byte]),
);

function byteCharacters(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const visible = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    return String.fromCharCode(visible ? byte : next++);
  });
}

/** The bytes that a token of stand-in characters means, or undefined when it holds another character. */
export function tokenBytes(token: string): Uint8Array | undefined {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = CHARACTER_TO_BYTE.get(token[i]!);
    if (byte === undefined) return undefined;
    bytes[i] = byte;
  }
  return bytes;
}
