/** Asking small programs of the system. */

import { execFileSync } from 'node:child_process';

/** A driver that hangs makes its tools hang. */
const LIMIT_MS = 10_000;

/**
 * What a program says on standard output, without white space around it; undefined where it is not there, fails, or takes
 * longer than ten seconds.
 */
export function programOutput(command: string, args: readonly string[]): string | undefined {
  try {
    return execFileSync(command, args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: LIMIT_MS,
      killSignal: 'SIGKILL',
    }).trim();
  } catch {
    return undefined;
  }
}
