/** `samples.jsonl`: texts that a run's model wrote, a line each. */

import { appendLines, readRecords } from './recordLines.ts';

/** Name of the log in a run's directory. */
export const SAMPLES_FILE = 'samples.jsonl';

/** A text that was written after a step. */
export interface SampleRecord {
  readonly step: number;
  readonly prompt: string;
  /** Goes on where the prompt ends. */
  readonly text: string;
}

/** As `appendLines`. */
export function appendSamples(path: string, samples: readonly SampleRecord[]): void {
  appendLines(
    path,
    samples.map(({ step, prompt, text }) => JSON.stringify({ step, prompt, text })),
  );
}

/** As `readRecords`. */
export function readSamples(path: string): AsyncGenerator<SampleRecord> {
  return readRecords(path, parseSample);
}

/** The record that a line holds, or undefined when it holds none. */
export function parseSample(line: string): SampleRecord | undefined {
  try {
    const value = JSON.parse(line) as SampleRecord;
    const { step, prompt, text } = value;
    return Number.isSafeInteger(step) && typeof prompt === 'string' && typeof text === 'string'
      ? value
      : undefined;
  } catch {
    return undefined;
  }
}
