/** How results and errors reach the user. */

import { styleText } from 'node:util';
import type { SluiceError } from '@sluice/core';
import { ABORTED_EXIT_CODE } from '../signals/stopSignal.ts';
import type { CommandResult } from './command.ts';
import { stackOf } from './failure.ts';

export interface OutputOptions {
  readonly json: boolean;
  /** Show the stack of errors. */
  readonly verbose: boolean;
}

/** One JSON object, or the text for people. */
export function formatResult(result: CommandResult, { json }: OutputOptions): string {
  if (json) return `${JSON.stringify(result.json)}\n`;
  return result.text.endsWith('\n') || result.text === '' ? result.text : `${result.text}\n`;
}

/** An error as people read it: its code, its message, its advice. */
export function formatError(error: SluiceError, { verbose }: OutputOptions, color = false): string {
  const title = color ? styleText('red', `error ${error.code}:`) : `error ${error.code}:`;
  const lines = [`${title} ${error.message}`, `  ${error.advice}`];
  if (verbose) lines.push(stackOf(error));
  return `${lines.join('\n')}\n`;
}

/** An error as the one JSON object of the command. */
export function errorAsJson(error: SluiceError): string {
  return `${JSON.stringify({ error: error.toJSON() })}\n`;
}

/** Exit code of a failed command: 2 for a wrong command line, 130 after a signal, 1 for everything else. */
export function exitCodeOf(error: SluiceError): number {
  if (error.code === 'SLUICE_E_INTERRUPTED') return ABORTED_EXIT_CODE;
  return error.code === 'SLUICE_E_USAGE' ? 2 : 1;
}
