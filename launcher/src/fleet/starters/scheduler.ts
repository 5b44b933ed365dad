/** Handing a text to a scheduler's own program. */

import { spawn } from 'node:child_process';
import { SluiceError } from '@sluice/core';

export interface SchedulerCall {
  readonly program: string;
  readonly args: readonly string[];
  /** What it reads on standard input. */
  readonly input?: string;
}

/**
 * Runs a scheduler's program, found on the PATH, to its end.
 * @returns what it wrote to standard output
 * @throws SLUICE_E_STARTER_MISSING when it is not there; SLUICE_E_STARTER_REFUSED, with its own words, when it fails
 */
export async function callScheduler({ program, args, input = '' }: SchedulerCall): Promise<string> {
  const child = spawn(program, args, { stdio: 'pipe' });
  const output = collect(child.stdout);
  const complaint = collect(child.stderr);
  // A program that ends before it has read everything says why by itself.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const ending = await new Promise<number | NodeJS.Signals | NodeJS.ErrnoException>((resolve) => {
    child.once('error', resolve);
    child.once('close', (code, signal) => resolve(signal ?? code ?? 1));
  });
  if (ending === 0) return output();
  const call = [program, ...args].join(' ');
  if (ending instanceof Error) {
    const reason = ending.code === 'ENOENT' ? 'is not on the PATH' : `cannot be run (${ending.code})`;
    throw new SluiceError('SLUICE_E_STARTER_MISSING', `The program ${program} ${reason}.`, {
      details: { program, errno: ending.code },
      cause: ending,
    });
  }
  const words = `${complaint()}\n${output()}`.trim();
  throw new SluiceError(
    'SLUICE_E_STARTER_REFUSED',
    `${call} ended with ${ending}${words === '' ? '.' : `:\n${words.replaceAll(/^/gm, '  ')}`}`,
    { details: { program, arguments: args, ending, output: words } },
  );
}

function collect(stream: NodeJS.ReadableStream): () => string {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks).toString('utf8');
}
