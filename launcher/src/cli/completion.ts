/** What a shell offers after `sluice …`: commands, flags, their values, runs, configurations and their keys. */

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { takesFurther } from './arguments.ts';
import type { Command } from './command.ts';

/** The word by which a shell's script asks; what follows is the line so far. */
export const ASK_COMPLETIONS = '__complete';

/** How deep below `runs/` a run is offered. */
const DEPTH = 3;

/** Positionals that are runs, and those that are configurations. */
const RUN_NAMES = new Set(['run', 'runs', 'source', 'sources', 'checkpoint', 'curve']);
const CONFIG_NAMES = new Set(['config', 'model', 'experiment']);

/**
 * What may stand at the end of a line.
 * @param words of the line after the program's name; the last one is being written, and may be empty
 * @param globals flags of every command
 */
export async function completionsOf(
  words: readonly string[],
  commands: readonly Command[],
  globals: readonly string[],
): Promise<string[]> {
  const current = words.at(-1) ?? '';
  const before = words.slice(0, -1);
  const command = commands.find(({ name }) => name.split(' ').every((part, i) => before[i] === part));
  const offered = command
    ? current.startsWith('-')
      ? [...Object.keys(command.options), ...globals, 'help'].map((flag) => `--${flag}`)
      : await valuesFor(command, current, before)
    : commands.flatMap(({ name }) => nextWord(name, before));
  return [...new Set(offered)].filter((word) => word.startsWith(current));
}

/** The word of a command's name that follows those that are there. */
function nextWord(name: string, before: readonly string[]): string[] {
  const parts = name.split(' ');
  const next = parts[before.length];
  return next !== undefined && before.every((word, i) => word === parts[i]) ? [next] : [];
}

/** @param before the words before the one that is being written */
async function valuesFor(command: Command, current: string, before: readonly string[]): Promise<string[]> {
  const flag = flagOf(before);
  const option = flag === undefined ? undefined : command.options[flag];
  if (option?.choices) return option.choices.map(String);
  if (flag === 'set') return (await keys(current)).map((key) => `${key}=`);
  if (flag === 'allow') return allowable(current);
  // A value of a flag that is a file or a number is not ours to guess.
  if (option !== undefined && option.type !== 'boolean') return [];
  const names = Object.keys(command.positionals);
  return [
    ...(names.some((name) => RUN_NAMES.has(name)) ? runsBelow('runs', DEPTH) : []),
    ...(names.some((name) => CONFIG_NAMES.has(name)) ? configurations('configs') : []),
  ];
}

/** The flag that a further word is a value of: the last one, where it takes more values than it has. */
function flagOf(before: readonly string[]): string | undefined {
  const at = before.findLastIndex((word) => word.startsWith('--'));
  if (at < 0) return undefined;
  const values = before.slice(at + 1);
  const takesMore = values.length === 0 || values.every((value) => takesFurther(before[at]!, value));
  return takesMore ? before[at]!.slice(2) : undefined;
}

async function allowable(current: string): Promise<string[]> {
  const { resumeRule } = await import('../run/resumeRules.ts');
  return (await keys(current)).filter((key) => resumeRule(key) === 'allow');
}

async function keys(current: string): Promise<string[]> {
  const [{ allKeyPaths }, { RunConfig }] = await Promise.all([
    import('@sluice/core'),
    import('@sluice/train'),
  ]);
  const paths = [...allKeyPaths(RunConfig)].filter((key) => key.startsWith(current));
  // Sections are no values: what can be set has nothing below it.
  return paths.filter((key) => !paths.some((other) => other.startsWith(`${key}.`)));
}

function runsBelow(folder: string, depth: number): string[] {
  if (depth === 0) return [];
  return entriesOf(folder).flatMap(({ path, isDirectory }) => {
    if (!isDirectory) return [];
    return existsSync(join(path, 'config.yaml')) ? [path] : runsBelow(path, depth - 1);
  });
}

function configurations(folder: string): string[] {
  return entriesOf(folder).flatMap(({ path, isDirectory }) =>
    isDirectory ? configurations(path) : /\.ya?ml$/.test(path) ? [path] : [],
  );
}

function entriesOf(folder: string): { readonly path: string; readonly isDirectory: boolean }[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .map((entry) => ({ path: join(folder, entry.name), isDirectory: entry.isDirectory() }))
      .sort((a, b) => (a.path < b.path ? -1 : 1));
  } catch {
    return [];
  }
}

/** For fish, which yargs has no script for. */
const FISH_SCRIPT = `# sluice completion --shell fish > ~/.config/fish/completions/sluice.fish
complete -c sluice -f -a '(sluice ${ASK_COMPLETIONS} (commandline -opc) (commandline -ct))'
complete -c sluice -F
`;

const BASH_SCRIPT = `# sluice completion --shell bash >> ~/.bashrc
_sluice_completions() {
  local word="\${COMP_WORDS[COMP_CWORD]}" IFS=$'\\n'
  COMPREPLY=( $(compgen -W "$(sluice ${ASK_COMPLETIONS} "\${COMP_WORDS[@]}" 2>/dev/null)" -- "$word") )
  # Nothing of ours: files.
  [ \${#COMPREPLY[@]} -eq 0 ] && COMPREPLY=( $(compgen -f -- "$word") )
  # A key that is to get a value, and a folder, go on without a space.
  [[ \${#COMPREPLY[@]} -eq 1 && "\${COMPREPLY[0]}" == *= ]] && compopt -o nospace
  return 0
}
complete -o filenames -o bashdefault -F _sluice_completions sluice
`;

const ZSH_SCRIPT = `#compdef sluice
# sluice completion --shell zsh > "\${fpath[1]}/_sluice"; or append it to ~/.zshrc
_sluice_completions() {
  local -a found keys
  found=("\${(@f)$(sluice ${ASK_COMPLETIONS} "\${(@)words[1,CURRENT]}" 2>/dev/null)}")
  found=("\${(@)found:#}")
  if (( ! \${#found} )); then _files; return; fi
  # The value of a key follows it without a space.
  keys=("\${(@M)found:#*=}")
  found=("\${(@)found:#*=}")
  compadd -S '' -a keys
  compadd -a found
}
if [[ "\${funcstack[1]}" = "_sluice" ]]; then _sluice_completions "$@"; else compdef _sluice_completions sluice; fi
`;

export const SHELL_SCRIPTS = { bash: BASH_SCRIPT, zsh: ZSH_SCRIPT, fish: FISH_SCRIPT } as const;
