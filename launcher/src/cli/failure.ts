/**
 * The one place that turns whatever escapes (from a command, an event handler, a promise that nobody waits for) into a coded
 * error with what was being done. Where the stack is what tells more, it is kept in a file: what ended a run of days may not
 * happen again.
 */

import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ErrorCode, isOutOfMemory, SluiceError } from '@sluice/core';
import { shellQuote } from '../run/runDirectory.ts';

/** What was being done when an error escaped. */
export interface FailureContext {
  /** The command line, without the program's name. */
  readonly words: readonly string[];
  /** Where the file with the stack goes; the run's directory, or else that of temporary files. */
  readonly directory?: string | undefined;
}

let runDirectory: string | undefined;

/** Says which run this process works on, for the message of whatever may fail. */
export function workingOn(directory: string): void {
  runDirectory = directory;
}

/** The error itself, where it is coded; one with a code and the context in place of any other. */
export function codedFailure(
  error: unknown,
  { words, directory = runDirectory }: FailureContext,
): SluiceError {
  if (error instanceof SluiceError) {
    const { stack } = error.details;
    return error.code === 'SLUICE_E_WORKER_FAILED' && typeof stack === 'string'
      ? withStackFile(error.code, error.message, error, stack, { words, directory })
      : error;
  }
  const command = ['sluice', ...words.slice(0, 6).map(shellQuote), ...(words.length > 6 ? ['…'] : [])].join(
    ' ',
  );
  const known = systemFailure(error);
  if (known) {
    return new SluiceError(known.code, known.message, {
      details: { command, ...known.details },
      cause: error,
    });
  }
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const run = directory === undefined ? '' : ` in the run ${directory}`;
  const message = `${command} failed${run} in a way that was not foreseen: ${text}`;
  return withStackFile('SLUICE_E_UNEXPECTED', message, error, stackOf(error), { words, directory });
}

/** The stack of an error and of what caused it. */
export function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? '' : `\ncaused by: ${stackOf(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}

function withStackFile(
  code: ErrorCode,
  message: string,
  error: unknown,
  stack: string,
  { words, directory }: FailureContext,
): SluiceError {
  const file = writeStack(directory ?? tmpdir(), words, stack);
  const told = file === undefined ? `The stack could not be written:\n${stack}` : `The stack is in ${file}`;
  const details = error instanceof SluiceError ? error.details : { words, stack };
  return new SluiceError(code, `${message}\n  ${told}`, { details: { ...details, file }, cause: error });
}

function writeStack(directory: string, words: readonly string[], stack: string): string | undefined {
  const file = join(directory, `failure-${process.pid}.txt`);
  const facts = [`sluice ${words.join(' ')}`, `node ${process.version}, ${process.platform} ${process.arch}`];
  try {
    writeFileSync(file, `${facts.join('\n')}\n\n${stack}\n`);
    return file;
  } catch {
    return undefined;
  }
}

const DISK_FULL = new Set(['ENOSPC', 'EDQUOT']);
const TOO_MANY_FILES = new Set(['EMFILE', 'ENFILE']);
/** Calls of the system that change what is on a disk. */
const WRITING = /^(write|mkdir|mkdtemp|rename|unlink|rmdir|link|symlink|copyfile|ftruncate|fsync|rm)/;
/** Calls of the system about a path; the rest are about processes and connections. */
const READING = /^(open|scandir|stat|lstat|fstat|read|access|realpath|opendir|statfs)/;

/** An error of the operating system that is nobody's bug. */
function systemFailure(
  error: unknown,
): { code: ErrorCode; message: string; details: Record<string, unknown> } | undefined {
  if (isOutOfMemory(error)) {
    return { code: 'SLUICE_E_OUT_OF_MEMORY', message: (error as Error).message, details: {} };
  }
  const { code, syscall = '', path } = (error ?? {}) as NodeJS.ErrnoException;
  if (code === undefined || !(error instanceof Error)) return undefined;
  const details = { errno: code, syscall, path };
  const place = path === undefined ? '' : ` ${path}`;
  if (syscall === 'uv_cwd') {
    const message = `The current directory cannot be found any more (${code}).`;
    return { code: 'SLUICE_E_WORKING_DIRECTORY', message, details };
  }
  if (DISK_FULL.has(code)) {
    return { code: 'SLUICE_E_DISK_FULL', message: `No space left while writing${place}.`, details };
  }
  if (TOO_MANY_FILES.has(code)) {
    const message = `Too many files are open (${code} at ${syscall}${place}).`;
    return { code: 'SLUICE_E_TOO_MANY_FILES', message, details };
  }
  if (WRITING.test(syscall)) {
    return {
      code: 'SLUICE_E_FILE_UNWRITABLE',
      message: `Cannot write${place} (${syscall}: ${code}).`,
      details,
    };
  }
  if (path !== undefined && READING.test(syscall)) {
    return { code: 'SLUICE_E_FILE_MISSING', message: `Cannot read ${path} (${syscall}: ${code}).`, details };
  }
  return undefined;
}
