/** Tells how it is with a run, after steps, to whoever looks at its directory. */

import type { RunProcesses } from '@sluice/observe';
import { type LiveStatus, writeLiveStatus } from '../run/liveStatus.ts';
import type { RunBoard } from './runBoard.ts';
import type { AfterStep, StepReport } from './trainingRun.ts';

/** At least so long from one time to the next, ms. */
const EVERY_MS = 2000;

export function statusAfterStep(
  runPath: string,
  board: Pick<RunBoard, 'report'>,
  unigramLoss: number | null,
  tell: (processes: RunProcesses) => void = () => {},
  now: () => number = () => performance.now(),
): AfterStep {
  let toldAt: number | undefined;
  return async (_run, { ranks }) => {
    if (toldAt !== undefined && now() - toldAt < EVERY_MS) return;
    toldAt = now();
    const report = board.report();
    const status = statusOf(report, ranks, unigramLoss);
    writeLiveStatus(runPath, status);
    tell({ ...status, savedStep: report.savedStep });
  };
}

function statusOf(
  { step, doing, restarts, workers, hosts }: ReturnType<RunBoard['report']>,
  ranks: StepReport['ranks'],
  unigramLoss: number | null,
): LiveStatus {
  const heard = new Map(hosts.map(({ name, heardAgoMs }) => [name, heardAgoMs / 1000]));
  return {
    ...{ step, doing, restarts, unigramLoss },
    workers: workers.map(({ rank, host, pid, doing: own }) => {
      const seconds = ranks[rank];
      return {
        ...{ rank, host, pid, doing: own },
        own: seconds ? seconds.total - seconds.waiting : null,
        waiting: seconds?.waiting ?? null,
        heardAgo: heard.get(host) ?? null,
      };
    }),
  };
}
