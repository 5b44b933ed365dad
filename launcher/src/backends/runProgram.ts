/** Runs another program to its end, and shows what it says. */

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { SluiceError } from '@sluice/core';

export interface ProgramCall {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Last lines of a failed program that its error shows. */
const SHOWN_LINES = 24;

/**
 * @param what the step in words, for the error
 * @param log receives the program's output line by line
 * @returns the output, lines of standard output and standard error as they came
 * @throws SLUICE_E_BACKEND_INSTALL, with the program's last lines
 */
export async function runProgram(
  what: string,
  call: ProgramCall,
  log: (line: string) => void,
): Promise<string[]> {
  const child = spawn(call.command, call.args, {
    ...(call.cwd && { cwd: call.cwd }),
    env: { ...process.env, ...call.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: string[] = [];
  const take = (line: string) => {
    lines.push(line);
    log(line);
  };
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', take);
  const failure = await new Promise<string | undefined>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(code === 0 ? undefined : `ended with ${signal ?? code}`));
  });
  if (failure === undefined) return lines;
  const shown = lines.filter((line) => line.trim() !== '').slice(-SHOWN_LINES);
  throw new SluiceError(
    'SLUICE_E_BACKEND_INSTALL',
    [`${what} failed: ${call.command} ${failure}`, ...shown.map((line) => `  ${line}`)].join('\n'),
    { details: { what, command: call.command, arguments: call.args, output: shown } },
  );
}
