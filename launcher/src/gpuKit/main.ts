/** What the kit's command line asks for. */

import { SluiceError } from '@sluice/core';
import { terminalTable } from '@sluice/observe';
import { exitCodeOf, formatError } from '../cli/output.ts';
import { KIT_HELP, parseKitArguments } from './arguments.ts';
import { SERIES_FLAG } from './cases.ts';
import { KIT_STEPS } from './catalog.ts';
import { STEP_FLAG, stepMain } from './child.ts';
import { runKit } from './kit.ts';
import { seriesMain } from './seriesMain.ts';

/** @returns the exit code: 0 where every step was right or skipped */
export async function kitMain(words: readonly string[]): Promise<number> {
  if (words[0] === STEP_FLAG) return stepMain(words.slice(1));
  if (words[0] === SERIES_FLAG) return seriesMain(words.slice(1));
  try {
    const given = parseKitArguments(words);
    if (given.show === undefined) return await runKit(given, KIT_STEPS);
    process.stdout.write(given.show === 'help' ? KIT_HELP : `${stepList()}\n`);
    return 0;
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    process.stderr.write(formatError(error, { json: false, verbose: false }));
    return exitCodeOf(error);
  }
}

function stepList(): string {
  const rows = KIT_STEPS.map(({ name, limitSeconds, describe }) => [name, `${limitSeconds} s`, describe]);
  return terminalTable(rows, { header: ['step', 'at most', 'what'], align: ['left', 'right', 'left'] });
}
