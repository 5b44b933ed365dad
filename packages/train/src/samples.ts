/** Texts that the model writes while it is trained: prompts shared out among the workers, each gone on with token by token. */

import { setImmediate as turn } from 'node:timers/promises';
import { type RandomKey, randomKey } from '@sluice/core';
import { type Decoder, nextTokens, sampleToken } from '@sluice/model';
import type { SampleRequest, SampleResult } from './protocol.ts';
import type { Topology } from './topology.ts';

export interface SampledModel {
  readonly model: Decoder;
  readonly topology: Pick<Topology, 'rank' | 'size' | 'experts'>;
  readonly seed: number;
  /** Tokens that the model is trained to see. */
  readonly sequenceLength: number;
}

/**
 * What this worker writes; all workers call it together. No text depends on their number, and nothing of what training goes on with is
 * touched. Workers that share experts must compute in step, so those without a prompt of their own repeat the last one, and all take as
 * many passes as the longest text could.
 */
export async function writeSamples(sampled: SampledModel, request: SampleRequest): Promise<SampleResult> {
  const { rank, size, experts } = sampled.topology;
  const { prompts } = request;
  const rounds = Math.ceil(prompts.length / size);
  const written: { prompt: number; tokens: number[] }[] = [];
  for (let round = 0; round < rounds; round++) {
    const own = rank * rounds + round;
    const isOwn = own < prompts.length;
    if (!isOwn && experts.size === 1) break;
    const prompt = Math.min(own, prompts.length - 1);
    const tokens = await goOn(sampled, request, prompt);
    if (isOwn) written.push({ prompt, tokens });
  }
  return { written };
}

async function goOn(
  { model, topology, seed, sequenceLength }: SampledModel,
  { step, prompts, maxTokens, temperature, vocabulary, stop }: SampleRequest,
  prompt: number,
): Promise<number[]> {
  const key: RandomKey = randomKey(seed, 'sample', step, prompt);
  const tokens = [...prompts[prompt]!];
  const start = tokens.length;
  const next = nextTokens(model, Math.min(sequenceLength, start + maxTokens));
  let end: number | undefined;
  while (tokens.length - start < maxTokens) {
    const logits = next(tokens).subarray(0, vocabulary);
    const token = sampleToken(logits, { temperature }, key, tokens.length);
    if (stop.includes(token)) end ??= tokens.length;
    if (end !== undefined && topology.experts.size === 1) break;
    tokens.push(token);
    // Lets messages be answered between tokens.
    await turn();
  }
  return tokens.slice(start, end);
}
