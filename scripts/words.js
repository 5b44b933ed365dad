/** What a script is given on its command line. Plain Node: it runs before anything is installed. */

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

/**
 * The options and the other words after `npm run … --`. `--help` shows what stands at the script's top, and ends; so does a word that
 * it does not take, with code 2.
 * @param script the script's `import.meta.url`
 * @param taken its options, as `parseArgs` has them, and how many other words it takes at most
 * @returns {{ values: Record<string, any>, positionals: string[] }}
 */
export function scriptWords(script, { options = {}, most = 0 } = {}) {
  showHelp(script);
  try {
    const { values, positionals } = parseArgs({ options, allowPositionals: true });
    if (positionals.length <= most) return { values, positionals };
    throw new Error(`Unexpected word '${positionals[most]}'.`);
  } catch (error) {
    // What follows tells of `--`, which here is npm's.
    return refuse(`${error.message.split('. ')[0].replace(/\.$/, '')}.`);
  }
}

/** Shows the comment at a script's top and ends, when `--help` is asked for. */
export function showHelp(script) {
  if (!process.argv.slice(2).some((word) => word === '--help' || word === '-h')) return;
  const [, comment] = /^\/\*\*(.*?)\*\//s.exec(readFileSync(new URL(script), 'utf8'));
  const lines = comment.split('\n').map((line) => line.replace(/^ \*? ?/, '').trimEnd());
  process.stdout.write(`${lines.join('\n').trim()}\n`);
  process.exit();
}

/** Ends the script for what it was given. */
export function refuse(message) {
  process.stderr.write(`${message} --help says what it takes.\n`);
  return process.exit(2);
}
