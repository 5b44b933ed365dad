import { rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { prepareData } from '@sluice/data';
import test from 'ava';
import { stories, TestFolder } from './support/folder.ts';

test('a text that was only touched is compared, once, and nothing is prepared anew', async (t) => {
  const folder = new TestFolder(t);
  const recipe = folder.jsonlRecipe(stories(40));
  const first = await prepareData(recipe, folder.options);
  utimesSync(folder.at('docs.jsonl'), 1, 1);
  const stages = async () => {
    const seen = new Set<string>();
    const onProgress = ({ stage }: { stage: string }) => seen.add(stage);
    const again = await prepareData(recipe, { ...folder.options, onProgress });
    t.deepEqual(again, { ...first, fresh: false });
    return [...seen];
  };
  t.deepEqual(await stages(), ['sources', 'compare']);
  t.deepEqual(await stages(), ['sources']);
});

test('a corpus does without its text; where the text has changed, its tokens are kept if asked', async (t) => {
  const folder = new TestFolder(t);
  const recipe = folder.jsonlRecipe(stories(40));
  const first = await prepareData(recipe, folder.options);
  folder.jsonlRecipe(stories(41));
  const kept = await prepareData(recipe, { ...folder.options, changedText: 'keep' });
  t.deepEqual(kept, { ...first, fresh: false, text: 'changed' });
  writeFileSync(folder.at('docs.jsonl'), 'no JSON');
  t.is((await prepareData(recipe, { ...folder.options, changedText: 'keep' })).text, 'changed');
  rmSync(folder.at('docs.jsonl'));
  t.deepEqual(await prepareData(recipe, folder.options), { ...first, fresh: false, text: 'gone' });
});

test('what is too much to be compared is told by its size once it is unpacked', async (t) => {
  const folder = new TestFolder(t);
  const texts = stories(40).map((text) => `${JSON.stringify({ text })}\n`);
  const file = folder.write('docs.jsonl.gz', gzipSync(texts.join('')));
  const recipe = folder.recipe({ sources: [{ kind: 'jsonl', path: 'docs.jsonl.gz' }] });
  await prepareData(recipe, folder.options);
  // Zeros after the end are no text; the file system does not store them.
  truncateSync(file, 2 ** 28 + 1);
  const { text } = await prepareData(recipe, { ...folder.options, changedText: 'keep' });
  t.is(text, 'untold');
});
