/** The hosts of a run as the progress display shows them, after each step. */

import type { Fleet } from '../fleet/fleet.ts';
import type { Recorder } from './recorder.ts';
import type { RunBoard } from './runBoard.ts';
import type { AfterStep } from './trainingRun.ts';

/** Shows each host with the longest own work of its workers: all of a step but the waiting for others. */
export function fleetAfterStep(fleet: Fleet, board: RunBoard, recorder: Pick<Recorder, 'fleet'>): AfterStep {
  return async (_run, { ranks }) => {
    const longest = new Map<string, number>();
    for (const [rank, { total, waiting }] of ranks.entries()) {
      const { host } = board.placeOf(rank);
      longest.set(host, Math.max(longest.get(host) ?? 0, total - waiting));
    }
    recorder.fleet({
      hosts: [...longest].map(([name, seconds]) => ({ name, seconds })),
      missing: fleet.missing(),
      ...board.faults,
    });
  };
}
