export { type Grain, readGrain } from './batches.ts';
export { rampSizes, samplesBefore, sequencesAt, stepsOfTokens } from './batchSizes.ts';
export {
  BENCH_SHAPES,
  type BenchClock,
  type BenchShape,
  type BenchStepOptions,
  type BenchStepResult,
  benchStep,
} from './bench.ts';
export { type BenchModelOptions, type BenchModelResult, benchModel } from './benchModel.ts';
export { COLLECTED, collectedBy } from './collected.ts';
export * from './config.ts';
export { ForwardMeter } from './diagnostics/meter.ts';
export { measureSavedUpdate, type SavedUpdate } from './diagnostics/savedUpdate.ts';
export * from './diagnostics/summary.ts';
export { GATE_BINS, mergeTallies, Tally } from './diagnostics/tally.ts';
export { describeEpisode, episodesOf, groupByEpisode, type SpikeEpisode } from './episodes.ts';
export {
  type CorpusLoss,
  type ForwardSource,
  forwardGrains,
  sequenceLengthOf,
  sequencesOf,
  weightedMean,
} from './forwardGrains.ts';
export { HostsConfig, STARTERS, type Starter } from './hostsConfig.ts';
export * from './lengthsConfig.ts';
export { memoryOf } from './memoryCopies.ts';
export {
  NOTICE_TEMPLATES,
  NOTIFIED_EVENTS,
  type NotifyConfig,
  ObserveConfig,
  SamplesConfig,
} from './observeConfig.ts';
export * from './plan/index.ts';
export { POISON_VARIABLE, type Poison, poisonedRate, poisonFrom, vainPoison } from './poison.ts';
export * from './protocol.ts';
export * from './rollback.ts';
export * from './schedule.ts';
export * from './spikes.ts';
export { type StepPart, type StepProfile, stepProfile } from './stepProfile.ts';
export type { ComputeSpan, WorkerTimeline } from './stepTimeline.ts';
export { combineReplicas } from './synchronize/combine.ts';
export { USUAL_MIXING } from './synchronize/config.ts';
export { mostOverlap, stageCount } from './synchronize/parts.ts';
export type { TokenSource } from './tokenSource.ts';
export { savedTensors } from './trainerState.ts';
export { createTrainingWorker } from './trainingWorker.ts';
export type { UpdateRatios } from './updateSizes.ts';
