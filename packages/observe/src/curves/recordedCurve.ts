/** Curves that somebody recorded: a loss, and where there is one a gradient norm, at steps that ascend and may be far apart. */

import type { RecordedUpdate } from '../record.ts';

export interface CurvePoint {
  readonly step: number;
  /** Nats a token; may be infinite or not a number. */
  readonly loss: number;
  /** Undefined where it was not recorded. */
  readonly gradientNorm?: number | undefined;
  /** Of the gradient of each group of parameters. */
  readonly groupNorms?: Readonly<Record<string, number>> | undefined;
  /** Of the step before, with the learning rate that it was taken at. */
  readonly lastUpdate?: (RecordedUpdate & { readonly learningRate: number }) | undefined;
}

/** What a curve was taken from; its points were handed out while it was read. */
export interface RecordedCurve {
  /** Name of the column or tag that the loss was taken from. */
  readonly lossName: string;
  /** The same of the gradient norm; null where there is none. */
  readonly normName: string | null;
  /** What was passed over, in words. */
  readonly remarks: readonly string[];
}

export interface CurveReader {
  /** Gets each point, steps ascending: of long runs there are more than should be held. */
  readonly onPoint: (point: CurvePoint) => void;
  /** Told how many bytes of a file have been read, of how many. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}
