/** What a shell offers after `sluice …`. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
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
  t.true((await offered('resume', 'runs/x', '--allow', 'training.')).includes('training.steps'));
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
  t.deepEqual(await offered('hash', 'runs/'), []);
});

test('bash understands its script', (t) => {
  const script = `sluice() { printf 'runs/a\nruns/b c\n'; }
${SHELL_SCRIPTS.bash}
COMP_WORDS=(sluice inspect runs/); COMP_CWORD=2; _sluice_completions; printf '%s|' "\${COMPREPLY[@]}"`;
  t.is(execFileSync('bash', ['-c', script], { encoding: 'utf8' }), 'runs/a|runs/b c|');
});
