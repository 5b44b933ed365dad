/** `samples.jsonl`: texts that a run's model wrote, one line each. */

import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const FILE = 'samples.jsonl';

export interface WrittenSample {
  readonly step: number;
  readonly prompt: string;
  /** Goes on where the prompt ends. */
  readonly text: string;
}

/** Nothing depends on it: where it cannot be written it is not. */
export function appendSample(runPath: string, sample: WrittenSample): void {
  try {
    appendFileSync(join(runPath, FILE), `${JSON.stringify(sample)}\n`);
  } catch {
    // The report has it as well.
  }
}

/** Oldest first; none where there is no file. */
export function readSamples(runPath: string): WrittenSample[] {
  let text: string;
  try {
    text = readFileSync(join(runPath, FILE), 'utf8');
  } catch {
    return [];
  }
  return text.split('\n').flatMap((line) => {
    try {
      const sample = JSON.parse(line) as WrittenSample;
      return typeof sample.text === 'string' && typeof sample.prompt === 'string' ? [sample] : [];
    } catch {
      return [];
    }
  });
}
