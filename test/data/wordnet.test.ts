import { prepareData } from '@sluice/data';
import test from 'ava';
import { documentsOf } from './support/documents.ts';
import { TestFolder } from './support/folder.ts';

test('WordNet is told in sentences, and no line is in both splits', async (t) => {
  const folder = new TestFolder(t);
  const recipe = folder.recipe({
    sources: [{ kind: 'wordnet' }],
    tokenizer: { kind: 'train', vocabularySize: 1000, sampleBytes: 200_000 },
    validation: { fraction: 0.02 },
  });
  const { directory } = await prepareData(recipe, folder.options);
  const linesOf = (texts: Iterable<string>) => [...texts].flatMap((text) => text.split('\n'));
  const train = new Set(linesOf(documentsOf(directory, 'train').values()));
  const validation = linesOf(documentsOf(directory, 'validation').values());
  for (const line of [
    'Kinds of bee.',
    'A mason bee is any of numerous solitary bees that build nests of hardened mud and sand.',
    'To toll is to ring slowly. For example: "For whom the bell tolls".',
    'Advertised means called to public attention. For example: "these advertised products".',
  ]) {
    t.true(train.has(line) || validation.includes(line), line);
  }
  // Examples with a definition of their own are told once; a few definitions stand in WordNet twice.
  const shared = validation.filter((line) => line.length > 60 && train.has(line));
  t.true(shared.length < validation.length / 500, shared.join('\n'));
  t.false([...train].some((line) => line.includes('_') || line.includes(' | ')));
});
