import fc from 'fast-check';

/** Words with their counts, from which small tokenizers are trained. */
export const TRAINING_WORDS = new Map([
  ['The', 9],
  [' heron', 20],
  [' her', 31],
  [' here', 12],
  [' opened', 11],
  [' the', 40],
  [' gate', 17],
  [' gates', 8],
  ['\n\n', 6],
  [' naïve', 4],
  ['日本', 5],
  ['aaaa', 7],
  ['.', 30],
]);

const PIECES = [
  ...TRAINING_WORDS.keys(),
  ...[' ', '  ', '\t', '\r\n', '\n', '\u0085', '\ufeff', '\u3000', '\u200b', '\u0000', '\u007f'],
  ...["'s", "'LL", "'ſ", 'K', 'ſt', '12', '1234', '½', '١', 'ǅ', 'ʕ', 'camelCase', 'HTTPServer', '_x'],
  ...['e\u0301', 'é', 'हिन्दी', '\u1100\u1161', '🙂‍↔️', '\ufffd', '\ua7ce', '\u{10ec5}', '\u{323b0}'],
  ...['<|endoftext|>', '<|endoftext', '|>', '!?', '/\n', 'Ġ', '__proto__', 'constructor'],
];

/** Any text, and text made of pieces that the merges, the patterns and the special tokens care about. */
export const texts = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc.array(fc.constantFrom(...PIECES), { maxLength: 25 }).map((pieces) => pieces.join('')),
);
