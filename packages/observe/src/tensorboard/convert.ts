/** A run's logs told to TensorBoard afterwards. */

import { join } from 'node:path';
import { DIAGNOSTICS_FILE, type DiagnosticsRecord, readDiagnostics } from '../diagnosticsLog.ts';
import { METRICS_FILE, readMetrics } from '../metricsLog.ts';
import { readSamples, SAMPLES_FILE, type SampleRecord } from '../samplesLog.ts';
import { TensorboardSink } from './sink.ts';

/**
 * Writes event files of a whole run.
 * @returns how many steps and measurements they hold
 * @throws SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL
 */
export async function convertToTensorboard(
  runDirectory: string,
  folder: string,
  config: Readonly<Record<string, unknown>>,
  isSuccess: boolean,
): Promise<{ readonly steps: number; readonly measurements: number }> {
  const measurements: DiagnosticsRecord[] = [];
  for await (const record of readDiagnostics(join(runDirectory, DIAGNOSTICS_FILE))) measurements.push(record);
  const samples = new Map<number, SampleRecord[]>();
  for await (const record of readSamples(join(runDirectory, SAMPLES_FILE))) {
    samples.set(record.step, [...(samples.get(record.step) ?? []), record]);
  }
  let sink: TensorboardSink | undefined;
  let [steps, told] = [0, 0];
  // The file begins when the run did.
  const open = (time: number) => new TensorboardSink(folder, { config, isNew: true, now: () => time });
  for await (const record of readMetrics(join(runDirectory, METRICS_FILE), { onDamaged: () => {} })) {
    sink ??= open(Date.parse(record.time) / 1000 || 0);
    sink.step(record);
    steps++;
    for (; told < measurements.length && measurements[told]!.step <= record.step; told++) {
      sink.measured(measurements[told]!);
    }
    sink.sampled(samples.get(record.step) ?? []);
  }
  (sink ?? open(0)).close(isSuccess);
  return { steps, measurements: told };
}
