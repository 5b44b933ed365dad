import { DataRecipe } from '@sluice/data';
import test from 'ava';
import { bigramBackcopySource } from '../../packages/data/src/sources/bigramBackcopy.ts';
import { noCounts } from '../../packages/data/src/sources/source.ts';

async function textsOf(fields: object): Promise<string[]> {
  const source = { kind: 'bigram-backcopy', documents: 40, ...fields };
  const tokenizer = { kind: 'train', vocabularySize: 257 };
  const recipe = DataRecipe.parse({ name: 'task', sources: [source], tokenizer });
  const [task] = recipe.sources;
  if (task?.kind !== 'bigram-backcopy') throw new Error('another kind');
  const texts: string[] = [];
  for await (const { text } of bigramBackcopySource(task).documents(noCounts())) texts.push(text);
  return texts;
}

/** The triggers are the first symbols, which are the characters from ! on. */
const isTrigger = (character: string, triggers: number) => character.charCodeAt(0) - 33 < triggers;

test('after a trigger the symbol before it comes again', async (t) => {
  const texts = await textsOf({ symbols: 10, triggers: 3, length: 100 });
  t.is(texts.length, 40);
  let copies = 0;
  for (const text of texts) {
    t.is(text.length, 100);
    t.true([...text].every((character) => character >= '!' && character < '+'));
    for (let i = 2; i < text.length; i++) {
      if (!isTrigger(text[i - 1]!, 3)) continue;
      t.is(text[i], text[i - 2]);
      copies++;
    }
  }
  t.true(copies > 500);
});

test('after other symbols come those of the table, as often as it says, in every document', async (t) => {
  const counts = async (range: readonly [number, number], fields: object) => {
    const texts = (await textsOf({ symbols: 4, triggers: 1, length: 2000, ...fields })).slice(...range);
    const found = new Array<number>(16).fill(0);
    for (const text of texts) {
      for (let i = 1; i < text.length; i++) {
        const [last, next] = [text.charCodeAt(i - 1) - 33, text.charCodeAt(i) - 33];
        found[last * 4 + next]!++;
      }
    }
    return [1, 2, 3].flatMap((row) => {
      const own = found.slice(row * 4, row * 4 + 4);
      return own.map((count) => count / own.reduce((a, b) => a + b, 0));
    });
  };
  const [first, second] = [await counts([0, 20], {}), await counts([20, 40], {})];
  t.true(first.every((share, i) => Math.abs(share - second[i]!) < 0.02));
  const even = await counts([0, 40], { sharpness: 0 });
  t.true(even.every((share) => Math.abs(share - 0.25) < 0.02));
  const sharp = await counts([0, 40], { sharpness: 8 });
  t.true(Math.max(...sharp) > 0.9);
});

test('the seed decides the table and the documents, which are the same each time and all different', async (t) => {
  const texts = await textsOf({ length: 64 });
  t.deepEqual(await textsOf({ length: 64 }), texts);
  t.is(new Set(texts).size, texts.length);
  t.notDeepEqual(await textsOf({ length: 64, seed: 1 }), texts);
  // More of them are the same at first, so that a corpus can grow.
  t.deepEqual((await textsOf({ length: 64, documents: 50 })).slice(0, 40), texts);
});

test('a task in which every symbol is a trigger is refused', async (t) => {
  await t.throwsAsync(textsOf({ symbols: 3, triggers: 3 }), {
    message: /3 triggers are not fewer than the 3 symbols/,
  });
});
