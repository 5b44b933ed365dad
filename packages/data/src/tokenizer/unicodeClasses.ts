/**
 * Unicode's classes as Hugging Face's library knows them. JavaScript's own (`\p{L}`) belong to the version of Node: each
 * knows other new letters, and now and then an old one changes its class. Words must be cut alike everywhere.
 */

import { UNICODE_RANGES } from './unicodeRanges.ts';

/** What stands between the brackets of a regular expression (flag u) for each class, such as `L` or `White_Space`. */
export const UNICODE_CLASSES: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries(UNICODE_RANGES).map(([name, packed]) => [name, unpack(packed)]),
);

function unpack(packed: string): string {
  let end = 0;
  return packed
    .split(' ')
    .map((range) => {
      const [distance = 0, length = 0] = range.split(':').map((digits) => Number.parseInt(digits, 36));
      const first = end + distance;
      end = first + length;
      return length === 0 ? escaped(first) : `${escaped(first)}-${escaped(end)}`;
    })
    .join('');
}

function escaped(code: number): string {
  return `\\u{${code.toString(16)}}`;
}
