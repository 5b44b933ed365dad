export { readCurve } from './curves/curve.ts';
export type { WantedNames } from './curves/names.ts';
export { curvePicture } from './curves/picture.ts';
export type { CurvePoint, CurveReader, RecordedCurve } from './curves/recordedCurve.ts';
export type { DiagnosedModel } from './diagnosis/page.ts';
export { writeDiagnosisPage } from './diagnosis/write.ts';
export * from './diagnosticsLog.ts';
export * from './experiment/compare.ts';
export * from './experiment/findLr.ts';
export type { ExperimentReportExtras } from './experiment/report/page.ts';
export * from './experiment/report/write.ts';
export * from './experiment/results.ts';
export {
  bootstrapInterval,
  INTERVAL_METHODS,
  type Interval,
  type IntervalMethod,
  mean,
  meanInterval,
} from './experiment/statistics.ts';
export {
  experimentTable,
  type FlatTable,
  findLrTable,
  writeTable,
} from './experiment/tables.ts';
export * from './format.ts';
export * from './metricsLog.ts';
export { type MetricsTable, readMetricsTable } from './metricsTable.ts';
export { type MlflowAccess, MlflowClient, type MlflowStatus } from './mlflow/client.ts';
export { MlflowSender } from './mlflow/sender.ts';
export * from './notify/messenger.ts';
export * from './notify/templates.ts';
export * from './progress/clock.ts';
export * from './progress/display.ts';
export { type FleetState, printable } from './progress/layout.ts';
export { hostMetrics } from './prometheus/hostMetrics.ts';
export * from './prometheus/metricsServer.ts';
export { RunMetrics, type RunProcesses } from './prometheus/runMetrics.ts';
export * from './record.ts';
export { meanOfGates } from './report/diagnostics.ts';
export * from './report/facts.ts';
export * from './report/report.ts';
export type { ShownSample } from './report/samples.ts';
export { type RunFrame, runFrame } from './runFrame.ts';
export * from './samplesLog.ts';
export * from './sink.ts';
export * from './superseded.ts';
export { convertToTensorboard } from './tensorboard/convert.ts';
export { TENSORBOARD_FOLDER, TensorboardSink } from './tensorboard/sink.ts';
export * from './terminal.ts';
export { type CollectorAccess, TraceCollector } from './timeline/collector.ts';
export { timelinePicture } from './timeline/picture.ts';
export * from './timeline/timeline.ts';
export { traceText } from './timeline/trace.ts';
export { isLoopback } from './watch/access.ts';
export * from './watch/catalog.ts';
export { LinesFollower } from './watch/linesFollower.ts';
export { RunFollower } from './watch/runFollower.ts';
export { type ListedRun, RunList } from './watch/runList.ts';
export * from './watch/server.ts';
