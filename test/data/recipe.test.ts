import { readdirSync } from 'node:fs';
import { SluiceError } from '@sluice/core';
import { loadRecipe } from '@sluice/data';
import test from 'ava';
import { TestFolder } from './support/folder.ts';

const SOURCE = 'sources: [{ kind: text, path: texts }]';
const TOKENIZER = 'tokenizer: { kind: train, vocabularySize: 300 }';

function messageOf(folder: TestFolder, yaml: string): string {
  const path = folder.write('recipe.yaml', yaml);
  const error = captureError(() => loadRecipe(path));
  if (!(error instanceof SluiceError) || error.code !== 'SLUICE_E_CONFIG_INVALID')
    throw new Error(`got ${error}`);
  return error.message;
}

function captureError(action: () => unknown): unknown {
  try {
    action();
    return undefined;
  } catch (error) {
    return error;
  }
}

test('every recipe that comes with Sluice is valid', (t) => {
  const folder = new URL('../../data/recipes/', import.meta.url).pathname;
  const names = readdirSync(folder).filter((name) => name.endsWith('.yaml'));
  t.true(names.length >= 7);
  for (const name of names) t.is(loadRecipe(folder + name).recipe.name, name.replace('.yaml', ''));
});

test('relative paths start from the recipe', (t) => {
  const folder = new TestFolder(t);
  const { resolve } = loadRecipe(folder.write('recipe.yaml', `name: a\n${SOURCE}\n${TOKENIZER}\n`));
  t.is(resolve('texts'), folder.at('texts'));
  t.is(resolve('/elsewhere'), '/elsewhere');
});

test('an unknown kind of tokenizer or source is refused with its place', (t) => {
  const folder = new TestFolder(t);
  t.regex(
    messageOf(folder, `name: a\n${SOURCE}\ntokenizer: { kind: trian, vocabularySize: 300 }\n`),
    /recipe\.yaml:3:/,
  );
  t.regex(
    messageOf(folder, `name: a\nsources:\n  - kind: books\n    path: x\n${TOKENIZER}\n`),
    /recipe\.yaml:3:/,
  );
});

test('a vocabulary without room for the bytes is refused with the number', (t) => {
  const message = messageOf(
    new TestFolder(t),
    `name: a\n${SOURCE}\ntokenizer: { kind: train, vocabularySize: 256 }\n`,
  );
  t.regex(message, /recipe\.yaml:3:.*257/s);
});

test('a misspelt key is refused with the nearest valid one', (t) => {
  const message = messageOf(
    new TestFolder(t),
    `name: a\nsources: [{ kind: text, path: x, documentSeperator: "-" }]\n${TOKENIZER}\n`,
  );
  t.regex(message, /documentSeperator/);
  t.regex(message, /documentSeparator/);
});

test('names that leave the folder, bad patterns and unknown encodings are refused', (t) => {
  const folder = new TestFolder(t);
  t.regex(messageOf(folder, `name: ../a\n${SOURCE}\n${TOKENIZER}\n`), /recipe\.yaml:1:/);
  t.regex(
    messageOf(folder, `name: a\nsources: [{ kind: text, path: x, documentSeparator: "(" }]\n${TOKENIZER}\n`),
    /regular expression/,
  );
  t.regex(
    messageOf(folder, `name: a\nsources: [{ kind: text, path: x, encoding: utf-9 }]\n${TOKENIZER}\n`),
    /utf-9/,
  );
});

test('a corpus has the name of one folder', (t) => {
  for (const name of ["'..'", '../up', "''", 'a/b', '.hidden', 'nul'])
    t.regex(
      messageOf(new TestFolder(t), `name: ${name}\n${SOURCE}\n${TOKENIZER}\n`),
      /recipe\.yaml:1:.*name/,
    );
});
