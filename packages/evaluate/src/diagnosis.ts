/** The paper's measurements of a trained model. */

import type { Decoder } from '@sluice/model';
import {
  type Diagnostics,
  ForwardMeter,
  mergeTallies,
  type SavedUpdate,
  summarize,
  type Tally,
  type TokenSource,
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
  source: TokenSource,
  { sequences, update, maps, onProgress }: DiagnosisOptions,
): Promise<Diagnosis> {
  const total = Math.min(sequences, source.numSequences);
  let tally: Tally | undefined;
  let done = 0;
  for (const grain of grainsOf(source, total)) {
    const meter = new ForwardMeter(decoder.config);
    decoder.observe(grain, meter);
    tally = tally ? mergeTallies(decoder.config, [tally, meter.tally]) : meter.tally;
    done += grain.sequences;
    onProgress?.(done, total);
    await new Promise(setImmediate);
  }
  const batch = { sequences: total, sequenceLength: source.sequenceLength };
  const [first] = grainsOf(source, 1);
  return {
    ...summarize(decoder.config, tally!, batch, 'ratios' in update ? update.ratios : undefined),
    ...('missing' in update && { noUpdateRatio: update.missing }),
    maps: maps ? attentionMaps(decoder, first!, maps) : [],
  };
}
