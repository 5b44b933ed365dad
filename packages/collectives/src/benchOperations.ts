/** The operations that `benchCollectives` measures. */

export const MEASURED_OPERATIONS = ['allReduce', 'reduceScatter', 'allGather', 'allToAll'] as const;
export type MeasuredOperation = (typeof MEASURED_OPERATIONS)[number];
