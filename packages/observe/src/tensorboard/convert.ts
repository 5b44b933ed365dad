/** A run's logs told to TensorBoard afterwards. */

import { join } from 'node:path';
import { DIAGNOSTICS_FILE, readDiagnostics } from '../diagnosticsLog.ts';
import { METRICS_FILE, readMetrics } from '../metricsLog.ts';
import { readSamples, SAMPLES_FILE, type SampleRecord } from '../samplesLog.ts';
import { TensorboardSink } from './sink.ts';

/**
 * Writes event files of a whole run. What was begun is removed again where it comes to no end.
 * @param onProgress told how much of the log has been read, of how much, bytes; what it throws ends the work
 * @returns how many steps and measurements they hold
 * @throws SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL
 */
export async function convertToTensorboard(
  runDirectory: string,
  folder: string,
  config: Readonly<Record<string, unknown>>,
  isSuccess: boolean,
  onProgress?: (done: number, total: number) => void,
): Promise<{ readonly steps: number; readonly measurements: number }> {
  const samples = new Map<number, SampleRecord[]>();
  for await (const record of readSamples(join(runDirectory, SAMPLES_FILE))) {
    samples.set(record.step, [...(samples.get(record.step) ?? []), record]);
  }
  let sink: TensorboardSink | undefined;
  let [steps, told] = [0, 0];
  // The file begins when the run did.
  const open = (time: number) => new TensorboardSink(folder, { config, isNew: true, now: () => time });
  // Those of a deep model are long: they are read along with the steps.
  const measurements = readDiagnostics(join(runDirectory, DIAGNOSTICS_FILE));
  try {
    let measured = await measurements.next();
    const options = { onDamaged: () => {}, onProgress };
    for await (const record of readMetrics(join(runDirectory, METRICS_FILE), options)) {
      sink ??= open(Date.parse(record.time) / 1000 || 0);
      sink.step(record);
      steps++;
      for (; !measured.done && measured.value.step <= record.step; measured = await measurements.next()) {
        sink.measured(measured.value);
        told++;
      }
      sink.sampled(samples.get(record.step) ?? []);
    }
    sink ??= open(0);
    sink.close(isSuccess);
  } catch (error) {
    sink?.discard();
    throw error;
  } finally {
    await measurements.return(undefined);
  }
  return { steps, measurements: told };
}
