/** Commands of Sluice as processes of their own, whose JSON is read. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { SluiceError } from '@sluice/core';
import { PROGRAM } from '../program.ts';
import { followingParent } from '../signals/parentWatch.ts';

/** Characters that are kept of what a process says beside its result. */
const KEPT_CHARACTERS = 4000;

export interface ProgramEnd {
  /** The command's JSON object; undefined where it printed none. */
  readonly json: Record<string, unknown> | undefined;
  /** What it failed with, where it said so. */
  readonly error: { readonly code: string; readonly message: string } | undefined;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The end of what it wrote on standard error. */
  readonly said: string;
}

/**
 * Runs `sluice WORDS --json` to its end. It has a process group of its own: what a terminal sends to this process reaches it
 * only through `stop`. It stops, in order, when this process is killed.
 * @param stop asks it for an orderly end
 */
export async function runProgram(words: readonly string[], stop: AbortSignal): Promise<ProgramEnd> {
  const child = spawn(process.execPath, [PROGRAM, ...words, '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: followingParent(),
    detached: true,
  });
  let [out, said] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-KEPT_CHARACTERS);
  });
  const ask = () => child.kill('SIGTERM');
  if (stop.aborted) ask();
  stop.addEventListener('abort', ask);
  try {
    const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
    const json = parseJson(out);
    return { json: json?.error ? undefined : json, error: errorOf(json), code, signal, said };
  } finally {
    stop.removeEventListener('abort', ask);
  }
}

/** What a failed command is reported as. */
export function programFailure(what: string, { error, code, signal, said }: ProgramEnd): SluiceError {
  const how = error ? `${error.code}: ${error.message}` : `it ended by ${signal ?? `exit code ${code}`}`;
  return new SluiceError('SLUICE_E_EXPERIMENT_RUN', `${what}: ${how}`, { details: { code, signal, said } });
}

function parseJson(text: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

function errorOf(json: Record<string, unknown> | undefined): ProgramEnd['error'] {
  const error = json?.error as { code?: unknown; message?: unknown } | undefined;
  return error && { code: String(error.code), message: String(error.message) };
}
