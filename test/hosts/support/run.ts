/** Runs the system's tools. */

import { spawnSync } from 'node:child_process';

/** @throws Error with what the command wrote, where it fails */
export function run(command: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}: ${stderr || stdout}`);
  return stdout;
}

/** Runs a command that may fail, such as one that removes what may be gone already. */
export function attempt(command: string, ...args: string[]): void {
  spawnSync(command, args, { stdio: 'ignore' });
}
