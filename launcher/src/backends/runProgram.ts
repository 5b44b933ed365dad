/** Runs another program to its end, and shows what it says. */

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { SluiceError } from '@sluice/core';
import { interruptible } from '../signals/interruptible.ts';

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
 * @throws SLUICE_E_BACKEND_INSTALL, with the program's last lines; SLUICE_E_INTERRUPTED, once the program has ended too
 */
export async function runProgram(
  what: string,
  call: ProgramCall,
  log: (line: string) => void,
): Promise<string[]> {
  const lines: string[] = [];
  const take = (line: string) => {
    lines.push(line);
    log(line);
  };
  const failure = await interruptible(async (signal) => {
    const ending = await endOf(call, take, signal);
    signal.throwIfAborted();
    return ending;
  });
  if (failure === undefined) return lines;
  const shown = lines.filter((line) => line.trim() !== '').slice(-SHOWN_LINES);
  throw new SluiceError(
    'SLUICE_E_BACKEND_INSTALL',
    [`${what} failed: ${call.command} ${failure}`, ...shown.map((line) => `  ${line}`)].join('\n'),
    { details: { what, command: call.command, arguments: call.args, output: shown } },
  );
}

/** How the program failed; undefined when it did not. */
function endOf(
  call: ProgramCall,
  take: (line: string) => void,
  signal: AbortSignal,
): Promise<string | undefined> {
  const child = spawn(call.command, call.args, {
    ...(call.cwd && { cwd: call.cwd }),
    env: { ...process.env, ...call.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  signal.addEventListener('abort', () => child.kill());
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', take);
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, by) => resolve(code === 0 ? undefined : `ended with ${by ?? code}`));
  });
}
