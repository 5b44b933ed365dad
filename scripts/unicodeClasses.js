/**
 * Writes `packages/data/src/tokenizer/unicodeRanges.ts`: which characters the regular expressions of Hugging Face's library
 * count among each class. To be run after a change of that library's version; a test says when it is due.
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer } from 'tokenizers';
import { root } from './steps.js';
import { scriptWords } from './words.js';

scriptWords(import.meta.url);

const CLASSES = ['L', 'Lu', 'Ll', 'Lt', 'Lm', 'Lo', 'M', 'N', 'White_Space'];

/** Every character of Unicode, in order. Surrogates are none. */
const characters = Array.from({ length: 0x110000 }, (_, code) => code)
  .filter((code) => code < 0xd800 || code > 0xdfff)
  .map((code) => String.fromCodePoint(code))
  .join('');

/** Stretches of neighbouring characters that the library counts among the class, each as its first and last code. */
function libraryRanges(name) {
  const json = {
    added_tokens: [],
    pre_tokenizer: {
      type: 'Split',
      pattern: { Regex: `\\p{${name}}+` },
      behavior: 'Removed',
      invert: true,
    },
    model: { type: 'WordLevel', vocab: {}, unk_token: '' },
  };
  const splitter = Tokenizer.fromString(JSON.stringify(json));
  const words = splitter.getPreTokenizer().preTokenizeString(characters);
  return words.flatMap(([word]) => stretches([...word].map((character) => character.codePointAt(0))));
}

/** The characters around the surrogates stand side by side in the text, but are no neighbours. */
function stretches(codes) {
  const ranges = [];
  for (const code of codes) {
    const last = ranges.at(-1);
    if (last?.[1] === code - 1) last[1] = code;
    else ranges.push([code, code]);
  }
  return ranges;
}

/** As `unicodeClasses.ts` reads them. */
function pack(ranges) {
  let end = 0;
  return ranges
    .map(([first, last]) => {
      const distance = (first - end).toString(36);
      end = last;
      return first === last ? distance : `${distance}:${(last - first).toString(36)}`;
    })
    .join(' ');
}

const lines = CLASSES.map((name) => `  ${name}: '${pack(libraryRanges(name))}',`);
writeFileSync(
  join(root, 'packages/data/src/tokenizer/unicodeRanges.ts'),
  `// Written by scripts/unicodeClasses.js.

/**
 * The characters of each class, as Hugging Face's library knows them: stretches of neighbouring codes in base 36, each the
 * distance from the end of the one before and, after a colon, its length less one.
 */
export const UNICODE_RANGES: Readonly<Record<string, string>> = {
${lines.join('\n')}
};
`,
);
