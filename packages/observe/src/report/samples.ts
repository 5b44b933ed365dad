/** What the model wrote: the newest texts, and how it got there. */

import { groupDigits } from '../format.ts';
import { readSamples, type SampleRecord } from '../samplesLog.ts';
import { details, escapeHtml, panel } from './elements.ts';

/** Older texts that are shown of a prompt. */
const EARLIER = 6;

/** The newest text of a prompt, and some older ones, newest first. */
export interface ShownSample extends SampleRecord {
  readonly earlier: readonly Pick<SampleRecord, 'step' | 'text'>[];
}

/** The prompts that were gone on with last. */
export function newestSamples(records: readonly SampleRecord[]): ShownSample[] {
  const last = records.at(-1)?.step;
  const newest = records.filter(({ step }) => step === last);
  return newest.map((sample) => {
    const before = records.filter(({ step, prompt }) => step !== last && prompt === sample.prompt);
    return { ...sample, earlier: evenly(before, EARLIER).reverse() };
  });
}

/** So many, the first among them. */
function evenly<Of>(all: readonly Of[], count: number): Of[] {
  if (all.length <= count) return [...all];
  return Array.from({ length: count }, (_, i) => all[Math.floor((i * all.length) / count)]!);
}

export async function collectSamples(path: string): Promise<ShownSample[]> {
  const records: SampleRecord[] = [];
  for await (const record of readSamples(path)) records.push(record);
  return newestSamples(records);
}

export function samplesPanel(samples: readonly ShownSample[]): string {
  const [first] = samples;
  if (first === undefined) return '';
  const texts = samples.map(
    ({ prompt, text, earlier }) =>
      `<p class="sample"><span class="prompt">${escapeHtml(prompt)}</span>${escapeHtml(text)}</p>${earlierTexts(earlier)}`,
  );
  return panel(
    samples.length === 1 ? 'Sample' : 'Samples',
    `the prompt, and how the model went on after step ${groupDigits(first.step)}`,
    texts.join('\n'),
    'panel wide samples',
  );
}

function earlierTexts(earlier: ShownSample['earlier']): string {
  if (earlier.length === 0) return '';
  const rows = earlier.map(
    ({ step, text }) =>
      `<li><span class="at-step">step ${groupDigits(step)}</span><span>${escapeHtml(text.trimStart())}</span></li>`,
  );
  return details('earlier', `<ol>${rows.join('')}</ol>`, false);
}
