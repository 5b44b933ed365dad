import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import test from 'ava';

const root = new URL('../../', import.meta.url);
const { scripts } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as {
  scripts: Record<string, string>;
};

/** npm runs them by itself, or they hand their words to a command of Sluice that has its own help. */
const WITHOUT_HELP = ['pretest', 'prepare', 'prepack', 'start', 'gpu'];

const described = Object.entries(scripts).flatMap(([name, command]) => {
  const [, file] = /^node (scripts\/\S+)$/.exec(command) ?? [];
  return file !== undefined && !WITHOUT_HELP.includes(name) ? [{ name, file }] : [];
});

const run = (file: string, word: string) =>
  spawnSync(process.execPath, [file, word], { cwd: root, encoding: 'utf8' });

test('every script of the repository says with --help what it is for, and does nothing', (t) => {
  t.true(described.length > 10);
  for (const { name, file } of described) {
    const { status, stdout, stderr } = run(file, '--help');
    t.is(status, 0, stderr);
    t.true(stdout.startsWith(`\`npm run ${name}`), stdout);
  }
});

test('a script refuses a word that it does not know, before it begins', (t) => {
  const { status, stdout, stderr } = run('scripts/gpuPack.js', '--json');
  t.is(status, 2);
  t.is(stdout, '');
  t.is(stderr, "Unknown option '--json'. --help says what it takes.\n");
});
