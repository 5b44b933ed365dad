/** What a run needs for spikes that are not to come. */
export const unwatched = {
  spikes: {
    observe: () => undefined,
    limits: () => undefined,
    inARow: 0,
    state: () => ({}),
    restore: () => {},
  },
  judgeArithmetic: () => {},
  whenWritable: async <T>(work: () => T | Promise<T>) => work(),
  goBack: () => Promise.reject(new Error('a run without spikes goes back')),
};
