import { DataRecipe, NEEDLE_KEYS, NEEDLE_VALUES, NOISE_SENTENCES } from '@sluice/data';
import test from 'ava';
import fc from 'fast-check';
import { needlesSource } from '../../packages/data/src/sources/needles.ts';
import { noCounts } from '../../packages/data/src/sources/source.ts';

async function textsOf(fields: object, documents = 4): Promise<string[]> {
  const recipe = DataRecipe.parse({
    name: 'task',
    sources: [{ kind: 'needles', documents, ...fields }],
    tokenizer: { kind: 'train', vocabularySize: 1024 },
  });
  const [task] = recipe.sources;
  if (task?.kind !== 'needles') throw new Error('another kind');
  const texts: string[] = [];
  for await (const { text } of needlesSource(task).documents(noCounts())) texts.push(text);
  return texts;
}

const wordsAndMarks = (text: string) => text.match(/[a-z]+|[.,:]/gi)!;

test('no word of the tasks begins another, and the noise holds none', (t) => {
  const words = [...NEEDLE_KEYS, ...NEEDLE_VALUES];
  t.is(new Set(words).size, 128);
  for (const word of words)
    t.deepEqual(
      words.filter((other) => other.startsWith(word)),
      [word],
    );
  const noise = new Set(NOISE_SENTENCES.join('').toLowerCase().match(/\w+/g));
  t.deepEqual(
    words.filter((word) => noise.has(word)),
    [],
  );
});

test('documents have exactly as many words and marks as asked for, and answer what was stated before', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 12 }),
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 0, max: 80 }),
      fc.nat(),
      async (needles, recalls, noise, seed) => {
        const length = needles * 4 * (1 + recalls) + noise;
        for (const text of await textsOf({ needles, recalls, length, seed })) {
          if (wordsAndMarks(text).length !== length) throw new Error(`${length}: ${text}`);
          const told = new Map<string, string>();
          let asked = 0;
          for (const [, verb, key, value] of text.matchAll(/(Note|Recall) (\w+) (\w+)\./g)) {
            if (verb === 'Note' && !told.has(key!)) told.set(key!, value!);
            else if (verb === 'Recall' && told.get(key!) === value) asked++;
            else throw new Error(text);
          }
          if (told.size !== needles || asked !== needles * recalls) throw new Error(text);
          if (new Set(told.values()).size !== needles) throw new Error(text);
        }
      },
    ),
    { numRuns: 50 },
  );
  t.pass();
});

test('chains of variables are told in order, and the question is for all that have the value', async (t) => {
  for (const text of await textsOf({ task: 'vt', chains: 3, hops: 2, length: 120 }, 50)) {
    t.is(wordsAndMarks(text).length, 120);
    const rootOf = new Map<string, string>();
    const members = new Map<string, string[]>();
    let answered = 0;
    for (const [, key, what, value, list] of text.matchAll(
      /Note (\w+) (\w+)\.|Which are (\w+): ([\w, ]+)\./g,
    )) {
      if (value !== undefined) {
        t.deepEqual(list!.split(', '), members.get(value));
        answered++;
        continue;
      }
      const root = rootOf.get(what!) ?? what!;
      rootOf.set(key!, root);
      members.set(root, [...(members.get(root) ?? []), key!]);
    }
    t.is(answered, 3);
    t.deepEqual(
      [...members.values()].map(({ length }) => length),
      [3, 3, 3],
    );
  }
});

test('documents of both kinds come where both are asked for', async (t) => {
  const texts = await textsOf({ task: 'both' }, 60);
  const tracking = texts.filter((text) => text.includes('Which are')).length;
  t.true(tracking > 15 && tracking < 45, `${tracking} of 60`);
});

test('the seed decides the documents, which are the same each time and all different', async (t) => {
  const texts = await textsOf({}, 40);
  t.is(new Set(texts).size, 40);
  t.deepEqual(await textsOf({}, 50).then((more) => more.slice(0, 40)), texts);
  t.notDeepEqual(await textsOf({ seed: 1 }, 40), texts);
});

test('documents that are too short for their statements and questions are refused', async (t) => {
  await t.throwsAsync(textsOf({ length: 63 }), { message: /statements and questions alone are 64 words/ });
  await t.notThrowsAsync(textsOf({ length: 64 }));
  await t.throwsAsync(textsOf({ task: 'vt', chains: 22, length: 1000 }), { message: /must be at most 64/ });
});
