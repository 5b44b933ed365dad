/** Files that come with Sluice are found by their names in the documentation, from any folder. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { shippedFile } from '@sluice/core';
import test from 'ava';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

/** A root with `configs/a.yaml`, `configs/models/b.yaml`, `data/recipes/c.yaml` and `README.md`. */
function shippedRoot(t: Parameters<typeof temporaryDirectory>[0]): string {
  const root = temporaryDirectory(t);
  for (const folder of ['configs/models', 'data/recipes']) mkdirSync(join(root, folder), { recursive: true });
  for (const file of ['configs/a.yaml', 'configs/models/b.yaml', 'data/recipes/c.yaml', 'README.md'])
    writeFileSync(join(root, file), '');
  return root;
}

test('configurations and recipes that are not in the working directory are those that came along', (t) => {
  const root = shippedRoot(t);
  for (const file of ['configs/a.yaml', './configs/a.yaml', 'configs/models/b.yaml', 'data/recipes/c.yaml'])
    t.is(shippedFile(file, root), join(root, file));
});

test('the working directory’s own files come first', (t) => {
  // The tests run in the repository, which has this file.
  t.is(shippedFile('configs/quickstart.yaml', shippedRoot(t)), 'configs/quickstart.yaml');
});

test('nothing else is looked for elsewhere: the error tells the path that was given', (t) => {
  const root = shippedRoot(t);
  for (const path of [
    'README.md',
    'configs/none.yaml',
    '/configs/a.yaml',
    'configs/../README.md',
    'x/configs/a.yaml',
  ])
    t.is(shippedFile(path, root), path);
});

test('the page on installing names every library that the package needs', (t) => {
  const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8')) as {
    dependencies: Record<string, string>;
  };
  const page = readFileSync('docs/installing.md', 'utf8');
  t.deepEqual(
    Object.keys(dependencies).filter((name) => !page.includes(`\`${name}\``)),
    [],
  );
});
