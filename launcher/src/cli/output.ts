/** How results and errors reach the user. */

import { styleText } from 'node:util';
import { SluiceError } from '@sluice/core';
import { ABORTED_EXIT_CODE } from '../signals/stopSignal.ts';
import type { CommandResult } from './command.ts';

export interface OutputOptions {
  readonly json: boolean;
  /** Show the stack of coded errors too. */
  readonly verbose: boolean;
}

/** One JSON object, or the text for people. */
export function formatResult(result: CommandResult, { json }: OutputOptions): string {
  if (json) return `${JSON.stringify(result.json)}\n`;
  return result.text.endsWith('\n') || result.text === '' ? result.text : `${result.text}\n`;
}

/** An error as people read it: the code, the message and the advice of a coded one, the stack of any other. */
export function formatError(error: unknown, { verbose }: OutputOptions, color = false): string {
  if (!(error instanceof SluiceError)) return `${stackOf(error)}\n`;
  const title = color ? styleText('red', `error ${error.code}:`) : `error ${error.code}:`;
  const lines = [`${title} ${error.message}`, `  ${error.advice}`];
  if (verbose) lines.push(stackOf(error));
  return `${lines.join('\n')}\n`;
}

/** An error as the one JSON object of the command. */
export function errorAsJson(error: unknown): string {
  const body =
    error instanceof SluiceError
      ? error.toJSON()
      : { code: 'INTERNAL', message: error instanceof Error ? error.message : String(error) };
  return `${JSON.stringify({ error: body })}\n`;
}

/** Exit code of a failed command: 2 for a wrong command line, 130 after a signal, 1 for everything else. */
export function exitCodeOf(error: unknown): number {
  if (!(error instanceof SluiceError)) return 1;
  if (error.code === 'SLUICE_E_INTERRUPTED') return ABORTED_EXIT_CODE;
  return error.code === 'SLUICE_E_USAGE' ? 2 : 1;
}

/** What a write says when a pipe's reader, or the terminal, is gone. */
const NOBODY_READS: ReadonlySet<string | undefined> = new Set(['EPIPE', 'EIO']);

/**
 * Has the process live on when nobody reads its output any more: the `tee` behind a run dies of the same Ctrl-C that asks
 * the run to save.
 */
export function outliveReaders(streams: readonly NodeJS.WritableStream[]): void {
  for (const stream of streams) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (!NOBODY_READS.has(error.code)) throw error;
    });
  }
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? '' : `\ncaused by: ${stackOf(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}
