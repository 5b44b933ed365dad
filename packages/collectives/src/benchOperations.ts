/** The operations that `measureOperation` measures. */

export const MEASURED_OPERATIONS = ['allReduce', 'reduceScatter', 'allGather', 'allToAll'] as const;
export type MeasuredOperation = (typeof MEASURED_OPERATIONS)[number];
