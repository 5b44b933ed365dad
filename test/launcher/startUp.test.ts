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

/** The libraries of which it loads something: those in the bundle, and those beside it. */
function librariesOf(entry: string): Set<string> {
  const loaded = [...loadedBy(entry)];
  const files = loaded.filter((name) => name.endsWith('.js') && !name.includes('/'));
  const bundled = files.flatMap((file) => [
    ...readFileSync(new URL(file, BUNDLE), 'utf8').matchAll(/^\/\/ node_modules\/((?:@[^/]+\/)?[^/]+)/gm),
  ]);
  return new Set([...loaded, ...bundled.map(([, name]) => name!)]);
}

test('the command line begins without sockets and without the engine', (t) => {
  const libraries = librariesOf('main.js');
  t.true(libraries.has('yargs'), 'libraries in the bundle are found');
  t.false(libraries.has('zeromq'));
  t.false(libraries.has('@tensorflow/tfjs-core'));
});

test('threads load what they use: sockets, and nothing that reads configurations', (t) => {
  t.true(librariesOf('communicationThread.js').has('zeromq'), 'libraries beside the bundle are found');
  for (const thread of ['communicationThread.js', 'shardThread.js', 'verifyThread.js']) {
    const libraries = librariesOf(thread);
    for (const name of ['zod', 'yaml', '@tensorflow/tfjs-core'])
      t.false(libraries.has(name), `${thread}: ${name}`);
  }
});
