/** The command line: parses, delegates to one command, and prints its result or its error. Nothing else. */

import { SluiceError } from '@sluice/core';
import yargs, { type Argv, type PositionalOptions } from 'yargs';
import {
  plainWords,
  refuseEmptyWords,
  refuseRemovedFlags,
  refuseRepeatedFlags,
  repeatFlags,
} from './cli/arguments.ts';
import type { Command, CommandContext } from './cli/command.ts';
import { ASK_COMPLETIONS, completionsOf } from './cli/completion.ts';
import { codedFailure } from './cli/failure.ts';
import { errorAsJson, exitCodeOf, formatError, formatResult } from './cli/output.ts';
import { FileOutput, outliveOutput } from './cli/standardOutput.ts';
import { refuseUnknownFlags, usageMessage } from './cli/usage.ts';
import { COMMANDS } from './commands/index.ts';
import { PACKAGE_VERSION } from './packageVersion.ts';
import { prepareForHangUp } from './signals/hangUp.ts';
import { heedSignalsBefore } from './signals/stopSignal.ts';

/** Flags that every command takes. */
export const GLOBAL_OPTIONS = {
  json: {
    type: 'boolean',
    default: false,
    describe: 'Print one JSON object on standard output, logs on standard error.',
  },
  verbose: { type: 'boolean', default: false, describe: 'Show the stack of errors.' },
} as const;

/** Where output goes; tests hand in their own. */
export interface Streams {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Whether errors may be coloured. */
  readonly color?: boolean;
  /** Width of the terminal that `out` is, where it is one. */
  readonly columns?: number;
}

/** Characters of a line of help; a terminal may have fewer. */
const HELP_WIDTH = 110;

const STANDARD_STREAMS: Streams = {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  color: process.stderr.isTTY === true && process.env.NO_COLOR === undefined,
  columns: process.stdout.columns,
};

/**
 * Runs one command line.
 * @param given the arguments after the program's name
 * @returns the exit code
 */
export async function main(given: readonly string[], streams: Streams = STANDARD_STREAMS): Promise<number> {
  if (given[0] === ASK_COMPLETIONS) {
    streams.out(
      (await completionsOf(given.slice(2), COMMANDS, Object.keys(GLOBAL_OPTIONS)))
        .map((word) => `${word}\n`)
        .join(''),
    );
    return 0;
  }
  const words = plainWords(given);
  let chosen: { command: Command; args: Record<string, unknown> } | undefined;
  let json = wantsJson(words);
  const verbose = isVerbose(words);
  try {
    refuseEmptyWords(words);
    refuseRemovedFlags(words);
    refuseUnknownFlags(words, Object.keys(GLOBAL_OPTIONS));
    refuseRepeatedFlags(words);
    // A terminal that nobody told its size has none.
    const width = Math.min(streams.columns || HELP_WIDTH, HELP_WIDTH);
    const parser = buildParser(words, width, (command, args) => {
      chosen = { command, args };
    });
    const printed = await parse(parser, repeatFlags(words));
    if (!chosen) {
      streams.out(`${printed}\n`);
      return 0;
    }
    json = chosen.args.json === true;
    const context: CommandContext = { log: (line) => streams.err(`${line}\n`) };
    const result = await chosen.command.run(chosen.args as never, context);
    streams.out(formatResult(result, { json, verbose }));
    return result.exitCode ?? 0;
  } catch (error) {
    return tellFailure(error, words, { json, verbose }, streams, chosen?.command.exitCodeOf);
  }
}

/**
 * Runs the command line of this process. What escapes it, in whatever way, is told as a coded error and ends the process.
 * @param asked grows with every signal that asks for a stop, from the first moment of the process
 * @returns the exit code
 */
export async function runProcess(
  words: readonly string[],
  asked: readonly NodeJS.Signals[] = [],
): Promise<number> {
  heedSignalsBefore(asked);
  const options = { json: wantsJson(words), verbose: isVerbose(words) };
  const { out, err } = outliveOutput();
  // Promises that are rejected unheard come here too.
  process.on('uncaughtException', (error) => {
    process.exit(tellFailure(error, words, options, STANDARD_STREAMS));
  });
  try {
    prepareForHangUp(() =>
      STANDARD_STREAMS.err('hang-up: going on, since hang-ups are ignored here (nohup)\n'),
    );
  } catch (error) {
    return tellFailure(error, words, options, STANDARD_STREAMS);
  }
  const code = await main(words);
  if (err instanceof FileOutput) err.ownUp();
  return out instanceof FileOutput && out.lostLines > 0 ? tellLostResult(out, code) : code;
}

/** A result that nobody got is no success, whatever the command did. */
function tellLostResult({ reason }: FileOutput, code: number): number {
  STANDARD_STREAMS.err(`error: the result could not be written to standard output (${reason})\n`);
  return code === 0 ? 1 : code;
}

/** What can be known of --json where the command line cannot be parsed. */
function wantsJson(words: readonly string[]): boolean {
  return words.some((word) => /^--json(=true)?$/.test(word));
}

function isVerbose(words: readonly string[]): boolean {
  return words.includes('--verbose') || Boolean(process.env.SLUICE_DEBUG);
}

/** @returns the exit code */
function tellFailure(
  error: unknown,
  words: readonly string[],
  options: { readonly json: boolean; readonly verbose: boolean },
  streams: Streams,
  codeOf = exitCodeOf,
): number {
  const failure = codedFailure(error, { words });
  if (options.json) streams.out(errorAsJson(failure));
  if (!options.json || failure.code === 'SLUICE_E_UNEXPECTED') {
    streams.err(formatError(failure, options, streams.color));
  }
  return codeOf(failure);
}

/** Runs yargs; gives back the text of `--help` or `--version`, if it was asked for. */
async function parse(parser: Argv, words: string[]): Promise<string> {
  let printed = '';
  await parser.parseAsync(words, {}, (_error, _argv, output) => {
    printed = output;
  });
  return printed;
}

type OnChosen = (command: Command, args: Record<string, unknown>) => void;

function buildParser(words: readonly string[], width: number, onChosen: OnChosen): Argv {
  const parser = yargs()
    .scriptName('sluice')
    .usage('$0 COMMAND\n\nPretrains gated-attention language models over many worker processes.')
    .parserConfiguration({ 'greedy-arrays': false, 'parse-positional-numbers': false })
    .options(GLOBAL_OPTIONS)
    .strict()
    .strictCommands()
    .recommendCommands()
    .help()
    .version(PACKAGE_VERSION)
    .wrap(width)
    .exitProcess(false)
    .fail((message, error) => {
      // What the checks of values throw comes wrapped in yargs' own error.
      if (error && error.name !== 'YError') throw error;
      const text = error?.message ?? message;
      throw new SluiceError('SLUICE_E_USAGE', usageMessage(text, words));
    });
  for (const [group, commands] of groupCommands()) {
    if (group === undefined)
      for (const command of commands) addCommand(parser, command, command.name, onChosen);
    else addGroup(parser, group, commands, onChosen);
  }
  return parser
    .demandCommand(1, 'Which command? See sluice --help.')
    .epilogue('sluice COMMAND --help tells more.');
}

/** Commands by their first word, when they have two; the others under undefined. */
function groupCommands(): Map<string | undefined, Command[]> {
  const groups = new Map<string | undefined, Command[]>();
  for (const command of COMMANDS) {
    const group = command.name.includes(' ') ? command.name.split(' ')[0] : undefined;
    groups.set(group, [...(groups.get(group) ?? []), command]);
  }
  return groups;
}

function addGroup(parser: Argv, group: string, commands: readonly Command[], onChosen: OnChosen): void {
  const names = commands.map(({ name }) => name.split(' ')[1]!);
  parser.command(group, `${names.join(', ')}: see sluice ${group} --help`, (inner) => {
    for (const [index, command] of commands.entries()) addCommand(inner, command, names[index]!, onChosen);
    return inner.demandCommand(1, `Which one? ${names.map((name) => `sluice ${group} ${name}`).join(', ')}`);
  });
}

/** Help would tell an empty list as the default of several arguments; of the lack of one yargs makes a list with nothing in it. */
const NONE_BY_DEFAULT: PositionalOptions = {
  default: undefined,
  coerce: (given: unknown[]) => given.filter((one) => one !== undefined),
};

function addCommand(parser: Argv, command: Command, name: string, onChosen: OnChosen): void {
  const places = Object.entries(command.positionals).map(([key, { array, demandOption }]) => {
    const place = `${key}${array ? '..' : ''}`;
    return demandOption ? `<${place}>` : `[${place}]`;
  });
  const usage = [name, ...places].join(' ');
  parser.command(
    usage,
    command.describe,
    (inner) => {
      for (const [key, definition] of Object.entries(command.positionals))
        inner.positional(key, { ...definition, ...(definition.array && NONE_BY_DEFAULT) });
      inner.options(command.options);
      const examples = command.examples.map(([line, what]) => `  ${line}\n      ${what}`);
      return inner.epilogue(`Examples:\n${examples.join('\n')}`);
    },
    (args) => onChosen(command, args as Record<string, unknown>),
  );
}
