/** Names of nodes: Slurm's lists of them (`h[1-3,7],gpu-[001-003]`), and the order in which people count them. */

import { SluiceError } from '@sluice/core';

/** More nodes than any cluster has: a list that means more is a typing error that would fill the memory. */
const MOST_NODES = 65_536;

/**
 * The nodes of a list in Slurm's notation, in its order, which is the order of node ranks. Numbers keep their width
 * (`n[08-10]`: n08, n09, n10), names may have several brackets (`r[1-2]n[1-2]`: the last one counts fastest).
 * @param name of the variable or file that the list is from, for the message
 * @throws SLUICE_E_PLACE_INVALID
 */
export function expandNodeList(list: string, name: string): string[] {
  const invalid = (what: string) =>
    new SluiceError(
      'SLUICE_E_PLACE_INVALID',
      `${name} is no list of nodes: ${JSON.stringify(list)} ${what}.`,
      {
        details: { [name]: list },
      },
    );
  const nodes: string[] = [];
  for (const pattern of splitOutsideBrackets(list, invalid)) {
    nodes.push(...expandPattern(pattern, invalid));
    if (nodes.length > MOST_NODES) throw invalid(`has more than ${MOST_NODES} of them`);
  }
  return nodes;
}

type Invalid = (what: string) => SluiceError;

function splitOutsideBrackets(list: string, invalid: Invalid): string[] {
  const patterns: string[] = [];
  let start = 0;
  let open = false;
  for (let i = 0; i <= list.length; i++) {
    const character = list[i];
    if (character === '[' || character === ']') {
      if (open === (character === '[')) throw invalid('has brackets that do not match');
      open = !open;
    } else if ((character === ',' && !open) || character === undefined) {
      patterns.push(list.slice(start, i));
      start = i + 1;
    }
  }
  if (open) throw invalid('has brackets that do not match');
  return patterns;
}

function expandPattern(pattern: string, invalid: Invalid): string[] {
  let names = [''];
  // Odd parts stood in brackets.
  pattern.split(/[[\]]/).forEach((part, index) => {
    const choices = index % 2 === 0 ? [part] : expandRanges(part, invalid);
    if (names.length * choices.length > MOST_NODES) throw invalid(`has more than ${MOST_NODES} of them`);
    names = names.flatMap((name) => choices.map((choice) => name + choice));
  });
  if (!names.every((name) => /^[\w.-]+$/.test(name))) throw invalid('has a name that no node can have');
  return names;
}

/** `1-3,7`: 1, 2, 3, 7. */
function expandRanges(ranges: string, invalid: Invalid): string[] {
  return ranges.split(',').flatMap((range) => {
    const [, first, last = first] = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(range) ?? [];
    if (first === undefined || last === undefined || Number(last) < Number(first)) {
      throw invalid(`has the range ${JSON.stringify(range)}`);
    }
    const count = Number(last) - Number(first) + 1;
    if (count > MOST_NODES) throw invalid(`has more than ${MOST_NODES} of them`);
    return Array.from({ length: count }, (_, i) => String(Number(first) + i).padStart(first.length, '0'));
  });
}

/**
 * Natural order: numbers within names by their value (`node7` before `node66`), the rest by its characters. Names that differ
 * never compare as equal, so that the order is the same wherever it is made.
 */
export function compareNodeNames(a: string, b: string): number {
  const left = a.match(/\d+|\D+/g) ?? [];
  const right = b.match(/\d+|\D+/g) ?? [];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const order = compareParts(left[i]!, right[i]!);
    if (order !== 0) return order;
  }
  // Equal but for leading zeros.
  return left.length - right.length || compareTexts(a, b);
}

function compareParts(a: string, b: string): number {
  const [x, y] = [a, b].map((part) => (/^\d/.test(part) ? part.replace(/^0+(?=\d)/, '') : undefined));
  if (x === undefined || y === undefined) return compareTexts(a, b);
  return x.length - y.length || compareTexts(x, y);
}

function compareTexts(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
