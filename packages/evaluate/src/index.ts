export * from './attentionMaps.ts';
export type { Diagnosis, DiagnosisOptions } from './diagnosis.ts';
export * from './documentLosses.ts';
export * from './inferenceModel.ts';
export * from './load.ts';
export type {
  AnswerScores,
  LongContextOptions,
  LongContextResult,
  LongContextScores,
} from './longContext/longContext.ts';
export type { LongContextTask, TaskOptions } from './longContext/tasks.ts';
export * from './textCodec.ts';
