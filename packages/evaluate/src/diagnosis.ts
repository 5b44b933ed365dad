/** The paper's measurements of a trained model. */

import type { Decoder } from '@sluice/model';
import {
  type Diagnostics,
  ForwardMeter,
  type ForwardSource,
  forwardGrains,
  mergeTallies,
  type SavedUpdate,
  sequenceLengthOf,
  sequencesOf,
  summarize,
  type Tally,
} from '@sluice/train';
import { type AttentionMap, type AttentionMapChoice, attentionMaps } from './attentionMaps.ts';
import { grainsOf } from './scoring.ts';

export interface Diagnosis extends Diagnostics {
  /** Why `updateRatio` is null; undefined where it is not. */
  readonly noUpdateRatio?: string;
  /** Of the first sequence; none where none were asked for. */
  readonly maps: readonly AttentionMap[];
}

export interface DiagnosisOptions {
  /** Sequences to measure, of those that there are. */
  readonly sequences: number;
  readonly update: SavedUpdate;
  readonly maps?: AttentionMapChoice | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** Measures the first sequences of a source. */
export async function diagnose(
  decoder: Decoder,
  source: ForwardSource,
  { sequences, update, maps, onProgress }: DiagnosisOptions,
): Promise<Diagnosis> {
  // However few are asked for, each corpus of a mixture gives one.
  const total = sequencesOf(forwardGrains(source, sequences, 1));
  let tally: Tally | undefined;
  let done = 0;
  for (const grain of grainsOf(source, sequences)) {
    const meter = new ForwardMeter(decoder.config);
    decoder.observe(grain, meter);
    tally = tally ? mergeTallies(decoder.config, [tally, meter.tally]) : meter.tally;
    done += grain.sequences;
    onProgress?.(done, total);
    await new Promise(setImmediate);
  }
  const batch = { sequences: total, sequenceLength: sequenceLengthOf(source) };
  const [first] = grainsOf(source, 1);
  return {
    ...summarize(decoder.config, tally!, batch, 'ratios' in update ? update.ratios : undefined),
    ...('missing' in update && { noUpdateRatio: update.missing }),
    maps: maps ? attentionMaps(decoder, first!, maps) : [],
  };
}
