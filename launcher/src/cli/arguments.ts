/** Small rewriting of the command line before yargs reads it. */

/** What a further value of a repeatable flag looks like; anything else that follows is not taken for one. */
const FURTHER_VALUES: Readonly<Record<string, RegExp>> = {
  '--set': /^[A-Za-z]\w*(\.\w+)*=/,
  '--allow': /^(name|backend|model|data|parallel|training|optimizer|schedule|spikes)(\.\w+)*$/,
};

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
