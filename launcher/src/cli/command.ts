/** What every command of the command line looks like. Definitions are data; the work is imported when it is done. */

import type { SluiceError } from '@sluice/core';
import type { Options, PositionalOptions } from 'yargs';

export interface CommandResult {
  /** The command's one JSON object. */
  readonly json: Readonly<Record<string, unknown>>;
  /** What a person reads on standard output in its place. */
  readonly text: string;
  /** 0 when left out. */
  readonly exitCode?: number;
  /** Of a run: whether it was asked to stop before it came to where it was to. */
  readonly stoppedEarly?: boolean;
}

export interface CommandContext {
  /** Progress and remarks, which are not the result. */
  readonly log: (line: string) => void;
}

export interface Command {
  /** Name, subcommand included: `data prepare`. */
  readonly name: string;
  readonly describe: string;
  readonly positionals: Readonly<Record<string, PositionalOptions & { readonly describe: string }>>;
  readonly options: Readonly<Record<string, Options & { readonly describe: string }>>;
  /** Command lines and what they do. */
  readonly examples: readonly (readonly [string, string])[];
  /** Exit code of an error, for commands whose code a scheduler reads. */
  readonly exitCodeOf?: (error: SluiceError) => number;
  // Arguments have been checked against the definitions above by then.
  readonly run: (args: never, context: CommandContext) => Promise<CommandResult>;
}

/** Lets a command state the type of its arguments. */
export function defineCommand<Arguments extends object>(
  command: Omit<Command, 'run'> & {
    readonly run: (args: Arguments, context: CommandContext) => Promise<CommandResult>;
  },
): Command {
  return command;
}
