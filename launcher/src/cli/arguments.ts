/** What is checked and rewritten of the command line before yargs reads it. */

import { SluiceError } from '@sluice/core';

/** What a further value of a repeatable flag looks like; anything else that follows is not taken for one. */
const FURTHER_VALUES: Readonly<Record<string, RegExp>> = {
  '--set': /^[A-Za-z]\w*(\.\w+)*=/,
  '--allow': /^(name|backend|model|data|parallel|training|optimizer|schedule|spikes)(\.\w+)*$/,
  // A key of somebody's config.json looks like any other word, so each takes a flag of its own.
  '--ignore-config': /(?!)/,
};

/** Whether a word may follow the values of a flag, as one more. */
export function takesFurther(flag: string, word: string): boolean {
  return FURTHER_VALUES[flag]?.test(word) === true;
}

/**
 * Writes `--set a=1 b=2` as `--set a=1 --set b=2`. Letting yargs take every word that follows would swallow the
 * command's own arguments.
 */
export function repeatFlags(words: readonly string[]): string[] {
  const repeated: string[] = [];
  let flag: string | undefined;
  let valueSeen = false;
  for (const word of words) {
    if (word in FURTHER_VALUES) {
      flag = word;
      valueSeen = false;
    } else if (flag && !valueSeen) {
      valueSeen = true;
    } else if (flag && FURTHER_VALUES[flag]!.test(word)) {
      repeated.push(flag);
    } else {
      flag = undefined;
    }
    repeated.push(word);
  }
  return repeated;
}

/**
 * Takes out `--`, after which no word is a flag. All arguments of commands that may begin with a dash are paths, so a dot
 * before them says the same.
 */
export function plainWords(words: readonly string[]): string[] {
  const dashes = words.indexOf('--');
  if (dashes < 0) return [...words];
  const after = words.slice(dashes + 1).map((word) => (word.startsWith('-') ? `./${word}` : word));
  return [...words.slice(0, dashes), ...after];
}

/**
 * Refuses a flag with a value that is given twice. yargs would not: of two numbers it makes a list, or, where the second is
 * 1, their sum.
 * @throws SLUICE_E_USAGE
 */
export function refuseRepeatedFlags(words: readonly string[]): void {
  const given = new Map<string, string>();
  for (const [i, word] of words.entries()) {
    const [flag, inline] = word.split('=', 2) as [string, string?];
    const value = inline ?? (words[i + 1]?.startsWith('--') ? undefined : words[i + 1]);
    if (!flag.startsWith('--') || value === undefined || flag in FURTHER_VALUES) continue;
    const before = given.get(flag);
    if (before !== undefined) {
      throw new SluiceError('SLUICE_E_USAGE', `${flag} is ${before} and ${value}, but takes one value.`, {
        details: { flag, values: [before, value] },
      });
    }
    given.set(flag, value);
  }
}

/** Flags that there were, and what to write in their place. */
const REMOVED_FLAGS: Readonly<Record<string, string>> = {
  '--max-steps':
    'write --until-step N to stop after step N of the run, or --more-steps N to stop after N more steps',
};

/**
 * Refuses flags that are gone by telling what does their work now.
 * @throws SLUICE_E_USAGE
 */
export function refuseRemovedFlags(words: readonly string[]): void {
  for (const word of words) {
    const flag = word.split('=', 1)[0]!;
    const instead = Object.hasOwn(REMOVED_FLAGS, flag) ? REMOVED_FLAGS[flag] : undefined;
    if (instead === undefined) continue;
    throw new SluiceError('SLUICE_E_USAGE', `There is no ${flag} any more: ${instead}.`, {
      details: { flag },
    });
  }
}

/** Flags whose value may be nothing: a prompt, and what has an error of its own. */
const MAY_BE_EMPTY: ReadonlySet<string | undefined> = new Set(['--prompt', '--set']);

/**
 * Refuses empty words, which a shell makes of a variable that is not set: as a path they would mean the current directory.
 * @throws SLUICE_E_USAGE
 */
export function refuseEmptyWords(words: readonly string[]): void {
  for (const [i, word] of words.entries()) {
    const before = words[i - 1];
    const [flag, inline] = word.split('=', 2) as [string, string?];
    const emptyInline = flag.startsWith('--') && inline === '' && !MAY_BE_EMPTY.has(flag);
    if (!emptyInline && (word !== '' || MAY_BE_EMPTY.has(before))) continue;
    const name = emptyInline ? flag : before?.startsWith('--') ? before : `Argument ${i + 1}`;
    throw new SluiceError('SLUICE_E_USAGE', `${name} is empty; was it a variable that is not set?`, {
      details: { argument: i + 1 },
    });
  }
}

/** The word that was given to a flag, before yargs made a number of it. */
export function givenWord(words: readonly string[], flag: string): string | undefined {
  const at = words.findIndex((word) => word === flag || word.startsWith(`${flag}=`));
  return words[at] === flag ? words[at + 1] : words[at]?.slice(flag.length + 1);
}
