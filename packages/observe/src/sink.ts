/** Where a run's numbers go beside its own logs. */

import type { DiagnosticsRecord } from './diagnosticsLog.ts';
import type { StepRecord } from './record.ts';
import type { SampleRecord } from './samplesLog.ts';

/** A place that a run is told to. Its methods may throw coded errors; whoever calls them goes on without it then. */
export interface MetricsSink {
  /** As people call it. */
  readonly name: string;
  step(record: StepRecord): void;
  measured(record: DiagnosticsRecord): void;
  /** What the model wrote after a step; left out where it is not told. */
  sampled?(samples: readonly SampleRecord[]): void;
  /** The run goes on after `step`; what was told of later steps does not count. */
  wentBack(step: number): void;
  /** @param isSuccess whether the run came to where it was to */
  close(isSuccess: boolean): void | Promise<void>;
}
