import { loadTokenizer, openDataset, prepareData, type SamplerOptions } from '@sluice/data';
import test, { type ExecutionContext } from 'ava';
import { failureOf } from '../support/failureOf.ts';
import { stories, TestFolder } from './support/folder.ts';

const TEXTS = stories(60);
const END = '<|endoftext|>';

async function prepared(t: ExecutionContext) {
  const folder = new TestFolder(t);
  const { directory } = await prepareData(folder.jsonlRecipe(TEXTS, { shardTokens: 97 }), folder.options);
  const dataset = openDataset(directory);
  const { endOfTextId } = loadTokenizer(dataset.tokenizerPath);
  const samplerOf = (options: Partial<SamplerOptions>) =>
    dataset.sampler({ split: 'train', sequenceLength: 24, seed: 3, ...options });
  return { dataset, endOfTextId, samplerOf };
}

type Opened = Awaited<ReturnType<typeof prepared>>;
type Sampler = ReturnType<Opened['samplerOf']>;

function read(sampler: Sampler, index: number): number[] {
  const sample = new Int32Array(sampler.sequenceLength + 1);
  sampler.read(index, sample);
  return [...sample];
}

/** All samples of an epoch, in the order of the corpus. */
function inOrder(sampler: Sampler): number[][] {
  const samples: number[][] = [];
  for (let i = 0; i < sampler.numSequences; i++) samples[sampler.locate(i).sequence] = read(sampler, i);
  return samples;
}

/** The tokens of the split, as far as sequences hold them. */
function tokensOf({ samplerOf, dataset }: Opened): number[] {
  const all = samplerOf({ sequenceLength: dataset.manifest.splits.train.tokens - 1 });
  return read(all, 0);
}

/** The same with a token before each document. */
function begun(tokens: readonly number[], beginning: number, end: number): number[] {
  const with_: number[] = [];
  tokens.forEach((token, i) => {
    if (i === 0 || tokens[i - 1] === end) with_.push(beginning);
    with_.push(token);
  });
  return with_;
}

test('packed, the token stands before each sequence, and every token is predicted once an epoch', async (t) => {
  const opened = await prepared(t);
  const tokens = tokensOf(opened);
  const sampler = opened.samplerOf({ beginning: 'e' });
  const [beginning] = loadTokenizer(opened.dataset.tokenizerPath).encodeOrdinary('e');
  t.is(sampler.numSequences, Math.floor(tokens.length / 24));
  const samples = inOrder(sampler);
  t.true(samples.every(([first]) => first === beginning));
  t.deepEqual(
    samples.flatMap((sample) => sample.slice(1)),
    tokens.slice(0, 24 * samples.length),
  );
});

test('separate, it stands before each document, and sequences go on where the one before ended', async (t) => {
  const opened = await prepared(t);
  for (const [token, id] of [
    ['e', loadTokenizer(opened.dataset.tokenizerPath).encodeOrdinary('e')[0]!],
    [END, opened.endOfTextId],
  ] as const) {
    const sampler = opened.samplerOf({ documents: 'separate', beginning: token });
    t.deepEqual(sampler.documentMarks, { begin: id, end: opened.endOfTextId });
    const expected = begun(tokensOf(opened), id, opened.endOfTextId);
    const samples = inOrder(sampler);
    t.is(samples.length, Math.floor((expected.length - 1) / 24));
    for (const [i, sample] of samples.entries()) t.deepEqual(sample, expected.slice(24 * i, 24 * i + 25));
  }
});

test('separate without such a token reads what packed reads', async (t) => {
  const { samplerOf, endOfTextId } = await prepared(t);
  const [packed, separate] = [samplerOf({}), samplerOf({ documents: 'separate' })];
  t.is(packed.documentMarks, undefined);
  t.deepEqual(separate.documentMarks, { begin: undefined, end: endOfTextId });
  t.deepEqual(inOrder(separate), inOrder(packed));
});

test('provenance names the documents and their tokens, beginning tokens included', async (t) => {
  const { samplerOf, dataset, endOfTextId } = await prepared(t);
  const tokenizer = loadTokenizer(dataset.tokenizerPath);
  const [e] = tokenizer.encodeOrdinary('e');
  for (const documents of ['packed', 'separate'] as const) {
    const sampler = samplerOf({ documents, beginning: 'e' });
    for (let i = 0; i < sampler.numSequences; i++) {
      const sample = read(sampler, i);
      const provenance = sampler.provenance(i);
      t.is(provenance.documents[0]!.sampleStart, documents === 'packed' ? 1 : 0);
      t.is(provenance.documents.at(-1)!.sampleEnd, 25);
      let held = 0;
      for (const one of provenance.documents) {
        const text = TEXTS[Number(/docs\.jsonl:(\d+)$/.exec(one.name)![1]) - 1]!;
        const ids = [...tokenizer.encodeOrdinary(text), endOfTextId];
        if (documents === 'separate') ids.unshift(e!);
        t.deepEqual(
          sample.slice(one.sampleStart, one.sampleEnd),
          ids.slice(one.documentStart, one.documentEnd),
        );
        held +=
          one.documentEnd - one.documentStart - (documents === 'separate' && one.documentStart === 0 ? 1 : 0);
      }
      t.is(
        provenance.shards.reduce((sum, { start, end }) => sum + end - start, 0),
        held,
      );
    }
  }
});

test('a token that the tokenizer does not have is refused with those that may be meant', async (t) => {
  const { samplerOf } = await prepared(t);
  const error = await failureOf((async () => samplerOf({ beginning: '<|end-of-text|>' }))());
  t.is(error.code, 'SLUICE_E_TOKEN_UNKNOWN');
  t.regex(error.message, /no token "<\|end-of-text\|>" \(did you mean "<\|endoftext\|>"\?\)/);
});
