/** What can be known of the image without building it: it needs a registry of images, which the tests do without. */

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sluiceRoot } from '@sluice/core';
import test from 'ava';
import picomatch from 'picomatch';

interface Instruction {
  readonly word: string;
  readonly rest: string;
}

function readLines(name: string): string[] {
  return readFileSync(join(sluiceRoot, name), 'utf8').split('\n');
}

/** The instructions of each stage. */
function stages(): Instruction[][] {
  const lines = readLines('Containerfile').filter((line) => !line.startsWith('#') && line.trim() !== '');
  const instructions = lines
    .join('\n')
    .replaceAll(/\\\n\s*/g, '')
    .split('\n')
    .map((line) => ({ word: line.split(' ', 1)[0]!, rest: line.slice(line.indexOf(' ') + 1).trim() }));
  const found: Instruction[][] = [];
  for (const instruction of instructions) {
    if (instruction.word === 'FROM') found.push([]);
    found.at(-1)!.push(instruction);
  }
  return found;
}

const words = (stage: readonly Instruction[], word: string) =>
  stage.filter((instruction) => instruction.word === word).map(({ rest }) => rest);

test('the program is started without a shell, by a user who is not root, and gets no compiler along', (t) => {
  const last = stages().at(-1)!;
  t.deepEqual(
    words(last, 'ENTRYPOINT').map((rest) => JSON.parse(rest)),
    [['sluice']],
  );
  t.deepEqual(words(last, 'USER'), ['node']);
  t.regex(words(last, 'FROM')[0]!, /-slim$/);
});

test('stages copy from stages that there are, and Node is one that the package runs on', (t) => {
  const all = stages();
  const names = all.flatMap((stage) => / AS (\w+)$/.exec(stage[0]!.rest)?.[1] ?? []);
  const copied = all
    .flatMap((stage) => words(stage, 'COPY'))
    .flatMap((rest) => /--from=(\w+)/.exec(rest)?.[1] ?? []);
  t.deepEqual(copied, ['build']);
  for (const name of copied) t.true(names.includes(name));
  const { engines } = JSON.parse(readFileSync(join(sluiceRoot, 'package.json'), 'utf8'));
  for (const stage of all) t.is(`>=${/node:([\d.]+)-/.exec(stage[0]!.rest)?.[1]}`, engines.node);
});

test('what is ignored in the context is ignored by git too, and nothing of the repository is', (t) => {
  const tracked = spawnSync('git', ['ls-files'], { cwd: sluiceRoot, encoding: 'utf8' });
  if (tracked.status !== 0) {
    t.log('skipped: this is no clone');
    t.pass();
    return;
  }
  const patterns = readLines('.dockerignore').filter((line) => line !== '');
  const isIgnored = picomatch(patterns.flatMap((pattern) => [pattern, `${pattern}/**`]));
  t.deepEqual(
    tracked.stdout.split('\n').filter((file) => isIgnored(file)),
    [],
  );
});

test('for each instruction set of the image there is one of the core that has a fused multiply-add', (t) => {
  const [build] = stages();
  const run = words(build!, 'RUN').find((rest) => rest.includes('SLUICE_MARCH'))!;
  t.regex(run, /x86-64-v3/);
  t.regex(run, /armv8-a/);
});
