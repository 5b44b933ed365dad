/** Asking small programs of the system. */

import { execFileSync } from 'node:child_process';

/** A driver that hangs makes its tools hang. */
const LIMIT_MS = 10_000;

export interface AskOptions {
  /** How long it may take; ten seconds when left out. */
  readonly limitMs?: number;
  /** Variables beside those of this process; an undefined one is not set for it. */
  readonly environment?: NodeJS.ProcessEnv;
}

/**
 * What a program says on standard output, without white space around it; undefined where it is not there, fails, or takes
 * longer than it may.
 */
export function programOutput(
  command: string,
  args: readonly string[],
  { limitMs = LIMIT_MS, environment = {} }: AskOptions = {},
): string | undefined {
  try {
    return execFileSync(command, args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, ...environment },
      timeout: limitMs,
      killSignal: 'SIGKILL',
    }).trim();
  } catch {
    return undefined;
  }
}
