export * from './attentionMaps.ts';
export type { Diagnosis, DiagnosisOptions } from './diagnosis.ts';
export * from './documentLosses.ts';
export * from './inferenceModel.ts';
export * from './load.ts';
export * from './sampling.ts';
export * from './textCodec.ts';
