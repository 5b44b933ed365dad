/** What every command loads before it does anything: the definitions of commands, and no library that only some of them need. */

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import test from 'ava';

const BUNDLE = new URL('../../launcher/bundle/', import.meta.url);

/** The modules that a file of the bundle imports at once, and those that they import: files of the bundle, and packages. */
function loadedBy(entry: string): Set<string> {
  const loaded = new Set<string>();
  const waiting = [entry];
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (loaded.has(file)) continue;
    loaded.add(file);
    const text = readFileSync(new URL(file, BUNDLE), 'utf8');
    for (const [, name] of text.matchAll(/^(?:import|export)\b[^;]*?["']([^"']+)["'];$/gm)) {
      if (name!.startsWith('./')) waiting.push(basename(name!));
      else loaded.add(name!);
    }
  }
  return loaded;
}

test('the command line begins without sockets and without the engine', (t) => {
  const loaded = loadedBy('main.js');
  t.true(loaded.size > 3, 'chunks of the bundle are found');
  t.false(loaded.has('zeromq'));
  const engine = [...loaded].filter((name) => name.endsWith('.js') && !name.includes('/'));
  for (const file of engine) {
    t.notRegex(readFileSync(new URL(file, BUNDLE), 'utf8'), /^\/\/ node_modules\/@tensorflow\//m, file);
  }
});

test('the thread that has a worker’s sockets loads them: they would be found', (t) => {
  const texts = [...loadedBy('communicationThread.js')];
  t.true(texts.includes('zeromq'));
});
