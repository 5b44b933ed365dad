import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadTokenizer, type Tokenizer } from '@sluice/data';
import { loadForInference } from '@sluice/evaluate';
import type { KeyValueCache } from '@sluice/model';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { type Answering, PromptReader } from '../../packages/evaluate/src/longContext/answers.ts';
import { noiseHaystack, textHaystack } from '../../packages/evaluate/src/longContext/haystack.ts';
import { makePrompt, retrieveFromContext } from '../../packages/evaluate/src/longContext/longContext.ts';
import { buildPrompt, nextEncoder } from '../../packages/evaluate/src/longContext/prompt.ts';
import { taskSample } from '../../packages/evaluate/src/longContext/tasks.ts';
import { fixture } from '../fixtures/huggingface/fixtures.ts';
import { failureOf } from '../support/failureOf.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

/** Tokenizers of several families, each of which can write any text. */
const FAMILIES = ['gpt2', 'llama2', 'llama3', 'bloom', 'deepseek', 'qwen', 'roberta', 'falcon'];

function tokenizerOf(t: ExecutionContext, family: string): Tokenizer {
  const path = `test/data/fixtures/tokenizers/${family}.json`;
  const { tokenizer } = JSON.parse(readFileSync(path, 'utf8')) as { tokenizer: object };
  return write(t, tokenizer);
}

function write(t: ExecutionContext, tokenizer: object): Tokenizer {
  const file = join(temporaryDirectory(t), 'tokenizer.json');
  writeFileSync(file, JSON.stringify(tokenizer));
  return loadTokenizer(file, { endOfText: undefined });
}

/** A tokenizer for which each word and mark, with the space before it, is a token. */
function wordTokenizer(): Tokenizer & { readonly words: string[] } {
  const words = ['<end>'];
  const idOf = (word: string) => {
    if (!words.includes(word)) words.push(word);
    return words.indexOf(word);
  };
  const encode = (text: string) => (text.match(/ ?\w+|\W/g) ?? []).map(idOf);
  return {
    words,
    vocabularySize: 300,
    endOfTextId: 0,
    notes: [],
    encode,
    encodeOrdinary: encode,
    encodeCorpus: async (texts) => texts.map(({ text }) => encode(text)),
    decode: (ids) =>
      Array.from(ids)
        .map((id) => words[id] ?? '')
        .join(''),
  };
}

const OPTIONS = { needles: 4, chains: 2, hops: 2, seed: 0 } as const;
const TASKS = ['niah', 'vt'] as const;
const times = (text: string, part: string) => text.split(part).length - 1;

test('a prompt and its answer have exactly the tokens asked for, by any tokenizer; all that is hidden is there once', (t) => {
  for (const family of FAMILIES) {
    const tokenizer = tokenizerOf(t, family);
    const encode = nextEncoder(tokenizer);
    fc.assert(
      fc.property(
        fc.constantFrom(...TASKS),
        fc.integer({ min: 400, max: 1500 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.nat(50),
        fc.nat(),
        (task, length, depth, index, seed) => {
          const make = () =>
            makePrompt(
              { start: [7] },
              encode,
              noiseHaystack(seed),
              { ...OPTIONS, task, seed },
              {
                ...{ index, depth, length },
              },
            );
          const { sample, prompt } = make();
          t.is(prompt.tokens.length + prompt.answer.length, length);
          t.is(prompt.tokens[0], 7);
          const text = tokenizer.decode(prompt.tokens.slice(1));
          for (const hidden of sample.hidden)
            t.is(times(text, hidden.text), 1, `${family}: ${hidden.text} in ${text}`);
          t.true(text.endsWith(sample.question));
          // The answer itself is told once, where it is hidden.
          if (task === 'niah') t.is(times(text, sample.answer), 1);
          t.deepEqual(make().prompt, prompt);
        },
      ),
      { numRuns: 6 },
    );
  }
});

test('what is asked for stands where its depth says, to half a sentence of the haystack', (t) => {
  const encode = nextEncoder(wordTokenizer());
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(30), (depth, index) => {
      const options = { ...OPTIONS, task: 'niah', needles: 1 } as const;
      const at = { index, depth, length: 1000 };
      const { sample, prompt } = makePrompt({ start: [] }, encode, noiseHaystack(0), options, at);
      const [needle] = [encode(sample.hidden[0]!.text)];
      const place = prompt.tokens.findIndex((_, i) => needle!.every((id, j) => prompt.tokens[i + j] === id));
      const room = prompt.tokens.length - needle!.length - encode(sample.question).length;
      // The longest sentence has 7 words and marks.
      t.true(Math.abs(place - depth * room) <= 7, `${place} of ${room}, depth ${depth}`);
    }),
  );
});

test('chains of variables can be followed from the beginning of the prompt to its end', (t) => {
  const tokenizer = wordTokenizer();
  for (let index = 0; index < 20; index++) {
    const options = { ...OPTIONS, task: 'vt', chains: 3 } as const;
    const at = { index, depth: 0, length: 400 };
    const { sample, prompt } = makePrompt(
      { start: [] },
      nextEncoder(tokenizer),
      noiseHaystack(3),
      options,
      at,
    );
    const rootOf = new Map<string, string>();
    for (const [, key, what] of tokenizer.decode(prompt.tokens).matchAll(/Note (\w+) (\w+)\./g))
      rootOf.set(key!, rootOf.get(what!) ?? what!);
    const asked = /Which are (\w+):$/.exec(sample.question)![1];
    const having = [...rootOf].filter(([, value]) => value === asked).map(([key]) => key);
    t.is(rootOf.size, 9);
    t.deepEqual(having, [...sample.answerWords]);
    t.is(sample.candidates.length, 3);
  }
});

test('a sample hides and asks the same at every depth, and another one something else', (t) => {
  const options = { ...OPTIONS, task: 'niah' } as const;
  const of = (index: number, depth: number) => taskSample(options, index, depth)!;
  const { hidden, ...asked } = of(3, 0.5);
  const { hidden: early, ...askedEarly } = of(3, 0);
  t.deepEqual(askedEarly, asked);
  t.deepEqual(early.slice(1), hidden.slice(1));
  t.is(asked.candidates.length, 16);
  t.is(new Set(asked.candidates).size, 16);
  t.is(asked.candidates[0], asked.answer);
  t.notDeepEqual(of(4, 0.5).hidden, hidden);
});

test('words that the text of the haystack holds are not hidden in it; where too few are left, it is said', async (t) => {
  const encode = nextEncoder(wordTokenizer());
  const text =
    'It began. The fox saw a red ox. It ran. Amber light fell on the hen! No one was there. It was late.';
  const haystack = textHaystack(1, () => text);
  for (let index = 0; index < 60; index++) {
    const { sample } = makePrompt(
      { start: [] },
      encode,
      haystack,
      { ...OPTIONS, task: 'niah' },
      {
        ...{ index, depth: 0, length: 200 },
      },
    );
    t.notRegex(sample.hidden.map((one) => one.text).join(''), /\b(fox|ox|hen|red|amber)\b/);
  }
  const many = { ...OPTIONS, task: 'niah', needles: 62 } as const;
  const error = await failureOf(
    Promise.resolve().then(() =>
      makePrompt({ start: [] }, encode, haystack, many, { index: 0, depth: 0, length: 900 }),
    ),
  );
  t.is(error.code, 'SLUICE_E_TASK_HAYSTACK');
});

test('a text without a sentence is no haystack', async (t) => {
  const make = (...stretches: string[]) => {
    const haystack = textHaystack(stretches.length, (stretch) => stretches[stretch]!);
    const at = { index: 1, depth: 0, length: 100 };
    return makePrompt(
      { start: [] },
      nextEncoder(wordTokenizer()),
      haystack,
      { ...OPTIONS, task: 'niah' },
      at,
    );
  };
  const error = await failureOf(Promise.resolve().then(() => make(' \n', '')));
  t.is(error.code, 'SLUICE_E_TASK_HAYSTACK');
  t.is(make(' \n', 'It began. It was.', '').prompt.answer.length, 1);
});

test('a haystack may be of very many sentences, or of a very long one', (t) => {
  const encode = (text: string) => [...text].map((character) => character.charCodeAt(0));
  const sample = {
    ...{ hidden: [{ text: 'NN', depth: 0.5 }], question: '?', answer: 'N', answerWords: ['N'] },
    candidates: ['N', 'M'],
  };
  for (const [haystack, at] of [
    [new Array<string>(400_000).fill('x'), 200_000],
    [['x'.repeat(400_000)], 400_000],
  ] as const) {
    const { tokens } = buildPrompt(sample, haystack, encode, { start: [], length: 400_004 });
    t.is(tokens.length, 400_003);
    t.is(tokens.indexOf('N'.charCodeAt(0)), at);
  }
});

test('a length that the task alone exceeds is refused, and so is a tokenizer that writes answers alike', async (t) => {
  const make = (tokenizer: Tokenizer, length: number) =>
    failureOf(
      Promise.resolve().then(() =>
        makePrompt(
          { start: [] },
          nextEncoder(tokenizer),
          noiseHaystack(0),
          { ...OPTIONS, task: 'niah' },
          {
            ...{ index: 0, depth: 0, length },
          },
        ),
      ),
    );
  const short = await make(wordTokenizer(), 18);
  t.is(short.code, 'SLUICE_E_TASK_LENGTH');
  t.regex(short.message, /are 19 tokens by themselves, more than the length of 18/);
  const blind = { ...wordTokenizer(), encodeOrdinary: (text: string) => [...text].map(() => 1) };
  t.is((await make({ ...blind }, 4000)).code, 'SLUICE_E_TOKENIZER_TEXT');
});

/** A model made by hand: what followed the last token where that came first is likelier than each other token, by `margin` nats. */
function copier(tokenizer: Tokenizer, margin: number): Answering {
  const seen: number[] = [];
  const logitsAt = (t: number) => {
    const logits = new Float32Array(tokenizer.vocabularySize);
    const first = seen.indexOf(seen[t]!);
    if (first < t) logits[seen[first + 1]!] = margin;
    return logits;
  };
  const read = (tokens: Int32Array, cache: KeyValueCache) => {
    const begin = cache.length;
    seen.length = begin;
    seen.push(...tokens);
    cache.advance(tokens.length);
    return Array.from(tokens, (_, i) => begin + i);
  };
  return {
    config: { numLayers: 1, numKeyValueHeads: 1, headDim: 2 } as Answering['config'],
    nextTokenLogits: (tokens, cache) => logitsAt(read(tokens, cache!).at(-1)!),
    followingLogits: (tokens, cache) =>
      Float32Array.from(read(tokens, cache).flatMap((t) => [...logitsAt(t)])),
  };
}

test('a model that copies what follows a key answers all, at the loss of its margin; one that knows nothing has chance', async (t) => {
  const tokenizer = wordTokenizer();
  const ask = (margin: number) =>
    retrieveFromContext(copier(tokenizer, margin), { tokenizer, start: [0] }, noiseHaystack(1), {
      ...{ ...OPTIONS, task: 'niah', lengths: [200, 1300], depths: [0, 0.3, 1], samples: 4 },
    });
  const sure = await ask(8);
  t.is(sure.candidates, 16);
  t.deepEqual(
    sure.results.map(({ length, depth }) => [length, depth]),
    [200, 1300].flatMap((length) => [0, 0.3, 1].map((depth) => [length, depth])),
  );
  const expected = Math.log(1 + 299 * Math.exp(-8));
  for (const one of [...sure.results, ...sure.lengths]) {
    t.like(one, { accuracy: 1, recall: 1, choiceAccuracy: 1 });
    t.true(Math.abs(one.answerLoss - expected) < 1e-5);
  }
  t.deepEqual(
    sure.lengths.map(({ length, samples }) => [length, samples]),
    [
      [200, 12],
      [1300, 12],
    ],
  );
  // All answers are equally likely then, so that none is chosen.
  const blind = await ask(0);
  t.like(blind.lengths[0], { accuracy: 0, recall: 0, choiceAccuracy: 0 });
  t.true(Math.abs(blind.lengths[0]!.answerLoss - Math.log(300)) < 1e-5);
});

test('progress is told in tokens, to the end', async (t) => {
  const tokenizer = wordTokenizer();
  const told: number[][] = [];
  await retrieveFromContext(copier(tokenizer, 1), { tokenizer, start: [] }, noiseHaystack(1), {
    ...{ ...OPTIONS, task: 'vt', lengths: [100, 300], depths: [0, 1], samples: 2 },
    onProgress: (done, total) => told.push([done, total]),
  });
  t.deepEqual(told, [
    [100, 800],
    [200, 800],
    [500, 800],
    [800, 800],
  ]);
});

test.serial('answers read piece by piece are scored as in one pass over the whole', async (t) => {
  const { decoder } = await loadForInference(fixture('qwen3'), { backend: 'native', threads: 1 });
  const { vocabularySize } = decoder.config;
  const prompt = Array.from({ length: 1300 }, (_, i) => (i * 37 + ((i * i) % 11)) % 96);
  const reader = new PromptReader(decoder, 90, prompt.length + 5);
  await reader.read(prompt);
  const whole = (tokens: readonly number[]) => {
    const logits_TV = decoder.logits({ inputs: Int32Array.from(tokens), sequences: 1 });
    const values = logits_TV.dataSync<'float32'>().slice();
    logits_TV.dispose();
    return (row: number) => values.subarray(row * vocabularySize, (row + 1) * vocabularySize);
  };
  const likelihoodOf = (answer: readonly number[]) => {
    const row = whole([...prompt, ...answer]);
    return answer.reduce((sum, token, i) => {
      const logits = row(prompt.length + i - 1);
      const total = logits.reduce((all, logit) => all + Math.exp(logit), 0);
      return sum + logits[token]! - Math.log(total);
    }, 0);
  };
  // In this order, so that each finds what the one before has left in the cache.
  for (const answer of [[5], [3, 4, 5, 6], [3, 4, 5, 7], [95]]) {
    const difference = Math.abs(reader.logLikelihood(answer) - likelihoodOf(answer));
    t.true(difference < 1e-3, `${answer}: ${difference}`);
  }
  const greedy: number[] = [];
  for (let i = 0; i < 4; i++) {
    const logits = whole([...prompt, ...greedy])(prompt.length + i - 1).subarray(0, 90);
    greedy.push(logits.indexOf(Math.max(...logits)));
  }
  t.deepEqual(reader.likeliest(4), greedy);
  t.true(Math.abs(reader.logLikelihood([3, 4, 5, 6]) - likelihoodOf([3, 4, 5, 6])) < 1e-3);
});
