/** A kernel of attention, whichever instructions it computes by, as whoever launches it sees it. */

import type { Activations, Argument, Kernel } from './device.ts';

export type AttentionKernelName = 'attention' | 'attentionKeys' | 'attentionQueries';

/** A kernel, the bytes of its shared memory, the rows that a block owns, and how many blocks share these rows' channels. */
export interface AttentionKernel {
  readonly kernel: Kernel;
  readonly sharedBytes: number;
  readonly rows: number;
  readonly parts: number;
  /** How it is told of rows of so many heads, of which it copies tiles. */
  readonly tilesOf: (array: Activations, heads: number) => Argument;
}
