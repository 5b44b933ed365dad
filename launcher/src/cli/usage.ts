/** What is wrong with a command line, in the words of who wrote it: yargs counts, and knows its own names. */

import { nearest, SluiceError } from '@sluice/core';
import { COMMANDS } from '../commands/index.ts';
import { givenWord, takesFurther } from './arguments.ts';
import type { Command } from './command.ts';

/** Flags of yargs, which every command has. */
const OWN_FLAGS = ['help', 'version'];

/**
 * Refuses flags that the command does not have, before anything that is missing: a mistyped one is more often than not what is.
 * @param globals flags of every command
 * @throws SLUICE_E_USAGE
 */
export function refuseUnknownFlags(words: readonly string[], globals: readonly string[]): void {
  const command = commandOf(words);
  if (!command) return;
  const own = Object.entries(command.options).flatMap(([name, { alias = [] }]) => [name, ...[alias].flat()]);
  const known = [...own, ...globals, ...OWN_FLAGS];
  for (const [i, word] of words.entries()) {
    const [, dashes, given] = /^(--?)([A-Za-z][^=]*)/.exec(word) ?? [];
    if (given === undefined) continue;
    // As yargs has it: --runDir is --run-dir, and --no-json the opposite of --json.
    const name = given.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`).replace(/^no-/, '');
    if (dashes === '--' && known.includes(name)) continue;
    const meant = nearest(given, known) ?? known.find((one) => given.length === 1 && one.startsWith(given));
    const before = words[i - 1]?.replace(/^--/, '') ?? '';
    const isValue = command.options[before]?.requiresArg === true;
    const hint =
      meant !== undefined
        ? ` (did you mean --${meant}?)`
        : isValue
          ? ` (as a value: --${before}=${word})`
          : '';
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `sluice ${command.name} has no ${dashes}${given}${hint}; sluice ${command.name} --help lists what it has.`,
      { details: { flag: given, ...(meant !== undefined && { meant }) } },
    );
  }
}

/** @param message of yargs */
export function usageMessage(message: string, words: readonly string[]): string {
  for (const reword of REWORDINGS) {
    const said = reword(message, words);
    if (said) return said;
  }
  return message;
}

const REWORDINGS: readonly ((message: string, words: readonly string[]) => string | undefined)[] = [
  ...[
    unknownCommand,
    missingArgument,
    missingFlag,
    missingValue,
    noChoice,
    tooMany,
    missingCompanions,
    notANumber,
  ],
];

/** yargs tells what was meant, and not what was written. */
function unknownCommand(message: string, words: readonly string[]): string | undefined {
  const meant = /^Did you mean (.+)\?$/.exec(message)?.[1];
  const isGroup = COMMANDS.some(({ name }) => name.startsWith(`${words[0]} `));
  const given = words.slice(0, isGroup ? 2 : 1).join(' ');
  return meant && `There is no sluice ${given} (did you mean ${isGroup ? `${words[0]} ` : ''}${meant}?).`;
}

function commandOf(words: readonly string[]): Command | undefined {
  return COMMANDS.find(({ name }) => name.split(' ').every((part, i) => words[i] === part));
}

/** yargs counts the arguments that are missing; people want to know which. */
function missingArgument(message: string, words: readonly string[]): string | undefined {
  if (!message.startsWith('Not enough non-option arguments')) return undefined;
  const command = commandOf(words);
  return command && `sluice ${command.name} needs ${placesOf(command)}.`;
}

function placesOf({ positionals }: Command): string {
  return Object.keys(positionals)
    .map((positional) => `<${positional}>`)
    .join(' ');
}

function missingFlag(message: string, words: readonly string[]): string | undefined {
  const names = /^Missing required arguments?: (.+)$/.exec(message)?.[1]?.split(', ');
  const command = commandOf(words);
  return (
    names && command && `sluice ${command.name} needs ${names.map((name) => `--${name}`).join(' and ')}.`
  );
}

function missingValue(message: string): string | undefined {
  const name = /^Not enough arguments following: (.+)$/.exec(message)?.[1];
  return name && `--${name} needs a value.`;
}

/** What a flag was given that takes one of a few words. */
function noChoice(message: string): string | undefined {
  const [, name, given, list] =
    /^Invalid values:\s+Argument: ([\w-]+), Given: "([^"]*)", Choices: (.*)$/s.exec(message) ?? [];
  if (name === undefined) return undefined;
  const choices = [...list!.matchAll(/"([^"]*)"/g)].map(([, choice]) => choice!);
  const meant = nearest(given!, choices);
  const hint = meant === undefined ? '' : ` (did you mean ${meant}?)`;
  return `--${name} is ${given}${hint}, not one of ${choices.join(', ')}.`;
}

/** Of a word too many yargs says that it is no command. */
function tooMany(message: string, words: readonly string[]): string | undefined {
  const list = /^Unknown (?:command|argument)s?: (.+)$/.exec(message)?.[1];
  const command = commandOf(words);
  if (list === undefined || !command) return undefined;
  const setting = words.find((word) => list.includes(word) && takesFurther('--set', word));
  const takes = placesOf(command);
  const hint = setting !== undefined && 'set' in command.options ? ` Did you mean --set ${setting}?` : '';
  return `sluice ${command.name} takes ${takes === '' ? 'no argument' : takes}, and no ${list} besides.${hint}`;
}

/** yargs draws an arrow from each option to what it does nothing without. */
function missingCompanions(message: string, words: readonly string[]): string | undefined {
  if (!message.startsWith('Implications failed')) return undefined;
  const { positionals = {} } = commandOf(words) ?? {};
  const shown = (name: string) => (name in positionals ? `<${name}>` : `--${name}`);
  const pairs = [...message.matchAll(/(\S+) -> (\S+)/g)];
  return pairs.map(([, option, needed]) => `${shown(option!)} needs ${shown(needed!)}.`).join(' ');
}

/** Of a word that is no number yargs makes NaN; people want to see what they wrote. */
function notANumber(message: string, words: readonly string[]): string | undefined {
  const flag = message.match(/^(--[\w-]+) is NaN, /)?.[1];
  const given = flag && givenWord(words, flag);
  return given && message.replace('NaN', () => given);
}
