/** Has the workers write texts at the configured steps. */

import { join } from 'node:path';
import type { TokenizerRecord } from '@sluice/checkpoint/huggingface';
import { invariant, SluiceError } from '@sluice/core';
import { decodeContinuation, TOKENIZER_FILE, type Tokenizer } from '@sluice/data';
import { codecOf, promptTokens } from '@sluice/evaluate';
import type { SampleRecord } from '@sluice/observe';
import type { RunConfig, SampleRequest } from '@sluice/train';
import type { AfterStep } from './trainingRun.ts';
import { isDue } from './trainRun.ts';

export interface Sampling {
  readonly config: RunConfig;
  /** Folder of the run's tokenizer. */
  readonly folder: string;
  readonly tokenizer: TokenizerRecord;
  /** Gets what was written after each such step, in the order of the prompts. */
  readonly keep: (samples: readonly SampleRecord[]) => void;
  readonly warn: (text: string) => void;
}

interface Prepared {
  readonly tokenizer: Tokenizer;
  /** What is asked of the workers, but for the step. */
  readonly asked: Omit<SampleRequest, 'step'>;
}

/** A run goes on without samples where its tokenizer cannot be read. */
export function samplesAfterStep(sampling: Sampling): AfterStep {
  const { config, keep, warn } = sampling;
  const { everySteps = 0, prompts = [] } = config.observe?.samples ?? {};
  let isPossible = everySteps > 0;
  let prepared: Prepared | undefined;
  return async ({ workers, observer }, { result: { step } }) => {
    if (!isPossible || (!isDue(everySteps, step) && step !== config.training.steps)) return;
    try {
      prepared ??= await prepare(sampling);
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
      isPossible = false;
      warn(`This run goes on without samples: ${error.message}`);
      return;
    }
    const { tokenizer, asked } = prepared;
    observer.activity('sampling');
    const answers = await workers.call('sample', { ...asked, step });
    const written = new Map(
      answers.flatMap(({ written }) => written.map(({ prompt, tokens }) => [prompt, tokens])),
    );
    const texts = prompts.map((prompt, index) => {
      const tokens = written.get(index);
      invariant(tokens, `no worker has gone on with prompt ${index}`);
      return { step, prompt, text: decodeContinuation(tokenizer, asked.prompts[index]!, tokens) };
    });
    keep(texts);
    observer.activity(undefined);
  };
}

async function prepare({ config, folder, tokenizer: { tokenKeys, endOfText } }: Sampling): Promise<Prepared> {
  const { data, observe } = config;
  const { prompts, maxTokens, temperature } = observe!.samples!;
  const path = join(folder, TOKENIZER_FILE);
  const codec = await codecOf({ folder, path, tokenKeys, endOfText }, data);
  const { tokenizer, stop } = codec;
  return {
    tokenizer,
    asked: {
      prompts: prompts.map((prompt) => promptTokens(codec, data, prompt)),
      ...{ maxTokens, temperature, vocabulary: tokenizer.vocabularySize, stop: [...stop] },
    },
  };
}
