/** How long a step takes, and what of it is communication. */

/** The last one: bringing replicas together that train apart, as far as it falls to a step. */
export type ExposedPart = 'gather' | 'exchange' | 'reduce' | 'agree' | 'synchronize';

/** Seconds of a step; the parts add up to it. */
export interface StepTimes {
  readonly compute: number;
  readonly optimizer: number;
  /** Communication that nothing overlaps: new parameters, rows to experts, gradients, the numbers that all agree on. */
  readonly exposed: Readonly<Record<ExposedPart, number>>;
  readonly communicate: number;
  readonly total: number;
  /** How long operations were under way, overlapped or not. */
  readonly underway: number;
  /** What one worker sends. */
  readonly bytesWithin: number;
  readonly bytesBetween: number;
  readonly messages: number;
}
