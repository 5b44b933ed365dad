/** Sizes that kernels are there for, for whoever wants to know before anything computes. */
export const CUDA_SIZES = {
  /** Rows that tensor cores take have a multiple of so many values. */
  rowMultiple: 8,
  /** Heads of attention have a multiple of so many channels. */
  headMultiple: 8,
  /** Channels of a head, or of a side of a delta rule's state, at most. */
  mostChannels: 256,
  /**
   * Experts at most: a block of `routeExperts.cu` has four numbers of each, where each is a group of its own, for each of its four tokens,
   * in the shared memory that every GPU has.
   */
  mostExperts: Math.floor((99 * 1024) / (4 * 4 * 4)),
} as const;
