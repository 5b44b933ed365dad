/** What needles are hidden in: noise sentences, or sentences of a text that a model was not trained on. */

import { randomKey, SluiceError } from '@sluice/core';
import { noiseSentence } from '@sluice/data';

/** The sentences of a sample's haystack, without end; each begins with a space. */
export type Haystack = (sample: number) => Generator<string>;

export function noiseHaystack(seed: number): Haystack {
  return function* (sample) {
    const key = randomKey(seed, 'haystack', sample);
    for (let i = 0; ; i++) yield noiseSentence(key, i);
  };
}

/**
 * Sentences of stretches of text, from stretch to stretch; samples begin at different ones, and after the last comes the first.
 * @param read the text of a stretch, cut anywhere
 * @throws SLUICE_E_TASK_HAYSTACK, once sentences are asked for, where no stretch has any
 */
export function textHaystack(count: number, read: (stretch: number) => string): Haystack {
  return function* (sample) {
    let without = 0;
    for (let stretch = sample; without < count; stretch++) {
      const sentences = sentencesOf(read(stretch % count));
      // The first and the last were cut.
      const whole = sentences.length > 2 ? sentences.slice(1, -1) : sentences;
      without = whole.length === 0 ? without + 1 : 0;
      yield* whole.map((sentence) => ` ${sentence}`);
    }
    throw new SluiceError(
      'SLUICE_E_TASK_HAYSTACK',
      'The text of the haystack has no sentence to hide anything between.',
    );
  };
}

function sentencesOf(text: string): string[] {
  return text
    .split(/(?<=[.!?])\s+|\n+/)
    .map((sentence) => sentence.trim())
    .filter((sentence) => sentence !== '');
}
