/** What a delta rule computes with on a device. N tokens, H heads, Dk channels of a key, Dv of a value. */

import type { Activations, DeviceArray } from './device.ts';

type Floats = DeviceArray<'f32'>;

/** Queries, keys and values are all in single precision, or all in bf16. */
export interface RecurrenceOperands {
  /** [N, H·Dk], of unit length */
  readonly q: Activations;
  readonly k: Activations;
  /** [N, H·Dv] */
  readonly v: Activations;
  /** [N, H] */
  readonly beta: Floats;
  /** [N, H·Dk], or [N, H]: logarithms of decays */
  readonly g: Floats;
}

export interface States {
  /** [H, Dk, Dv] before the first token; zeros without */
  readonly before?: Floats;
  /** Gets those after the last token. */
  readonly after?: Floats;
}
