/** Retrieval from long contexts: how well a model answers, by length of the context and depth of what it is asked for. */

import { SluiceError } from '@sluice/core';
import { decodeContinuation } from '@sluice/data';
import type { TextCodec } from '../textCodec.ts';
import { type Answering, PromptReader } from './answers.ts';
import type { Haystack } from './haystack.ts';
import { buildPrompt, type EncodeNext, enoughSentences, nextEncoder, type Prompt } from './prompt.ts';
import { type TaskOptions, type TaskSample, taskSample } from './tasks.ts';

export interface LongContextOptions extends TaskOptions {
  /** Tokens of a prompt with its answer. */
  readonly lengths: readonly number[];
  /** Where what is asked for stands, from 0 to 1 (niah). */
  readonly depths: readonly number[];
  /** Prompts at each length and depth. */
  readonly samples: number;
  /** Told of tokens that were read, of all. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

export interface AnswerScores {
  /** Share of the samples in which the likeliest tokens are the answer. */
  readonly accuracy: number;
  /** Mean share of the answer's words that are among the likeliest tokens. */
  readonly recall: number;
  /** Share of the samples in which the answer is likelier than each of the others to choose from. */
  readonly choiceAccuracy: number;
  /** Mean cross-entropy of the answers, nats a token. */
  readonly answerLoss: number;
  readonly samples: number;
}

export interface LongContextScores extends AnswerScores {
  readonly task: TaskOptions['task'];
  readonly length: number;
  /** Null where what is asked for stands in several places (vt). */
  readonly depth: number | null;
}

export interface LongContextResult {
  /** Answers to choose from, of which one is right. */
  readonly candidates: number;
  /** By length, then by depth. */
  readonly results: readonly LongContextScores[];
  /** Of each length, over all depths. */
  readonly lengths: readonly (AnswerScores & { readonly length: number })[];
}

/** What is needed of a model's tokenizer. */
type AnswerCodec = Pick<TextCodec, 'tokenizer' | 'start'>;

/** What came of one sample. */
interface Answered {
  readonly isExact: boolean;
  readonly recall: number;
  readonly isChosen: boolean;
  readonly loss: number;
  readonly tokens: number;
}

/**
 * Sample i has the same hidden sentences at every length and depth, so that these can be compared.
 * @throws SLUICE_E_TASK_LENGTH, SLUICE_E_TASK_HAYSTACK, SLUICE_E_TOKENIZER_TEXT
 */
export async function retrieveFromContext(
  decoder: Answering,
  codec: AnswerCodec,
  haystack: Haystack,
  options: LongContextOptions,
): Promise<LongContextResult> {
  const { task, lengths, samples, onProgress } = options;
  const depths = task === 'niah' ? options.depths : [null];
  const encode = nextEncoder(codec.tokenizer);
  const total = lengths.reduce((sum, length) => sum + length, 0) * depths.length * samples;
  let done = 0;
  let candidates = 0;
  const results: LongContextScores[] = [];
  const summaries: LongContextResult['lengths'][number][] = [];
  for (const length of lengths) {
    const ofLength: Answered[] = [];
    for (const depth of depths) {
      const answered: Answered[] = [];
      for (let index = 0; index < samples; index++) {
        const at = { index, depth: depth ?? 0, length };
        const { sample, prompt } = makePrompt(codec, encode, haystack, options, at);
        candidates = prompt.candidates.length;
        answered.push(await answer(decoder, codec, sample, prompt));
        done += length;
        onProgress?.(done, total);
      }
      results.push({ task, length, depth, ...summarizeAnswers(answered) });
      ofLength.push(...answered);
    }
    summaries.push({ length, ...summarizeAnswers(ofLength) });
  }
  return { candidates, results, lengths: summaries };
}

export function makePrompt(
  { start }: Pick<AnswerCodec, 'start'>,
  encode: EncodeNext,
  haystack: Haystack,
  options: TaskOptions,
  { index, depth, length }: { readonly index: number; readonly depth: number; readonly length: number },
): { sample: TaskSample; prompt: Prompt } {
  const sentences = enoughSentences(haystack(index), encode, length);
  const words = new Set(
    sentences
      .join('')
      .toLowerCase()
      .match(/\p{L}+/gu),
  );
  const sample = taskSample(options, index, depth, (word) => !words.has(word));
  if (sample) return { sample, prompt: buildPrompt(sample, sentences, encode, { start, length }) };
  throw new SluiceError(
    'SLUICE_E_TASK_HAYSTACK',
    `A haystack of ${length} tokens of this text holds so many of the words of the ${options.task} task that too few are left to hide and ask for.`,
    { details: { length, task: options.task } },
  );
}

async function answer(
  decoder: Answering,
  { tokenizer }: AnswerCodec,
  sample: TaskSample,
  prompt: Prompt,
): Promise<Answered> {
  const longest = Math.max(...prompt.candidates.map(({ length }) => length));
  const reader = new PromptReader(decoder, tokenizer.vocabularySize, prompt.tokens.length + longest);
  await reader.read(prompt.tokens);
  const likelihoods = prompt.candidates.map((candidate) => reader.logLikelihood(candidate));
  const text = decodeContinuation(tokenizer, prompt.tokens, reader.likeliest(prompt.answer.length));
  const words = new Set(text.match(/\p{L}+/gu));
  return {
    isExact: text.trim() === sample.answer.trim(),
    recall: sample.answerWords.filter((word) => words.has(word)).length / sample.answerWords.length,
    isChosen: likelihoods.slice(1).every((other) => other < likelihoods[0]!),
    loss: -likelihoods[0]!,
    tokens: prompt.answer.length,
  };
}

function summarizeAnswers(answered: readonly Answered[]): AnswerScores {
  const sum = (of: (one: Answered) => number) => answered.reduce((total, one) => total + of(one), 0);
  const samples = answered.length;
  return {
    accuracy: sum(({ isExact }) => Number(isExact)) / samples,
    recall: sum(({ recall }) => recall) / samples,
    choiceAccuracy: sum(({ isChosen }) => Number(isChosen)) / samples,
    answerLoss: sum(({ loss }) => loss) / sum(({ tokens }) => tokens),
    samples,
  };
}
