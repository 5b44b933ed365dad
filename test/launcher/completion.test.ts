/** What a shell offers after `sluice …`. */

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { completionsOf, SHELL_SCRIPTS } from '../../launcher/src/cli/completion.ts';
import { COMMANDS } from '../../launcher/src/commands/index.ts';
import { GLOBAL_OPTIONS } from '../../launcher/src/main.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const offered = (...words: string[]) => completionsOf(words, COMMANDS, Object.keys(GLOBAL_OPTIONS));

test('commands, their second words, flags and the values of flags are offered', async (t) => {
  t.true((await offered('')).includes('train'));
  t.deepEqual(await offered('tr'), ['train']);
  t.deepEqual(await offered('data', ''), ['prepare', 'list']);
  t.deepEqual(await offered('launch', 'x.yaml', '--ex'), ['--expert-parallel']);
  t.deepEqual(await offered('watch', '--js'), ['--json']);
  t.deepEqual(await offered('train', 'x.yaml', '--from-missing', ''), ['refuse', 'initialize']);
  t.deepEqual(await offered('train', 'x.yaml', '--workers', ''), []);
  t.deepEqual(await offered('nonsense', ''), []);
});

test('keys of the configuration are offered where they are set, sections are not', async (t) => {
  t.deepEqual(await offered('train', 'x.yaml', '--set', 'optimizer.learningR'), ['optimizer.learningRate=']);
  t.false((await offered('train', 'x.yaml', '--set', 'optim')).includes('optimizer='));
  t.true((await offered('train', 'x.yaml', '--set', 'seed=2', 'optim')).includes('optimizer.kind='));
  t.deepEqual(await offered('train', 'x.yaml', '--workers', '2', 'optim'), []);
  const allowable = await offered('resume', 'runs/x', '--allow', 'training.steps', 'optimizer.');
  t.true(allowable.includes('optimizer.learningRate'));
  t.false(allowable.includes('optimizer.kind'));
});

test.serial('runs are offered where a run is named, configurations where one is', async (t) => {
  const directory = temporaryDirectory(t);
  for (const run of ['a', 'group/b']) {
    mkdirSync(join(directory, 'runs', run), { recursive: true });
    writeFileSync(join(directory, 'runs', run, 'config.yaml'), '');
  }
  mkdirSync(join(directory, 'configs/models'), { recursive: true });
  writeFileSync(join(directory, 'configs/models/x.yaml'), '');
  const before = process.cwd();
  process.chdir(directory);
  t.teardown(() => process.chdir(before));
  t.deepEqual(await offered('resume', 'runs/'), ['runs/a', 'runs/group/b']);
  t.deepEqual(await offered('count', ''), ['configs/models/x.yaml']);
  t.deepEqual(await offered('hash', 'runs/'), ['runs/a', 'runs/group/b']);
  t.deepEqual(await offered('import', 'runs/'), ['runs/a', 'runs/group/b']);
  t.deepEqual(await offered('logits', '--ids', 'runs/'), []);
});

test('bash understands its script', (t) => {
  const script = `sluice() { printf 'runs/a\nruns/b c\n'; }
${SHELL_SCRIPTS.bash}
COMP_WORDS=(sluice inspect runs/); COMP_CWORD=2; _sluice_completions; printf '%s|' "\${COMPREPLY[@]}"`;
  t.is(execFileSync('bash', ['-c', script], { encoding: 'utf8' }), 'runs/a|runs/b c|');
});

/** Whether there is such a shell. */
const has = (shell: string) => spawnSync(shell, ['-c', 'exit'], { stdio: 'ignore' }).status === 0;

(has('fish') ? test : test.skip)('fish understands its script', (t) => {
  const script = `function sluice; printf '%s\\n' runs/a 'runs/b c'; end
${SHELL_SCRIPTS.fish}
complete -C 'sluice inspect runs/'`;
  t.is(execFileSync('fish', ['--no-config', '-c', script], { encoding: 'utf8' }), 'runs/a\nruns/b c\n');
});

(has('zsh') ? test : test.skip)('zsh understands its script: names get a space, keys do not', (t) => {
  const directory = temporaryDirectory(t);
  const file = (name: string) => join(directory, name);
  const stand = `sluice() { case $argv[-1] in na) print -r -- 'name x';; ke) print -r -- key=;; esac }`;
  const write = `write-line() { print -r -- "$BUFFER" >> ${file('lines')}; BUFFER= }; zle -N write-line; bindkey '^Xw' write-line`;
  writeFileSync(
    file('begin'),
    `autoload -Uz compinit; compinit -u -D\n${stand}\n${SHELL_SCRIPTS.zsh}\n${write}\n: > ${file('ready')}\n`,
  );
  // A line editor wants a terminal.
  const session = `zmodload zsh/zpty
zpty terminal zsh -f -i
zpty -w terminal "source ${file('begin')}"
until [[ -e ${file('ready')} ]]; do sleep 0.05; done
zpty -n -w terminal $'sluice inspect na\\t\\C-xwsluice train x --set ke\\t\\C-xw'
until [[ -s ${file('lines')} && $(wc -l < ${file('lines')}) -ge 2 ]]; do sleep 0.05; done
zpty -d terminal`;
  execFileSync('zsh', ['-f', '-c', session], { timeout: 120_000 });
  t.is(readFileSync(file('lines'), 'utf8'), 'sluice inspect name\\ x \nsluice train x --set key=\n');
});
