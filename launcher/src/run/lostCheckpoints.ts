/** A run whose checkpoints cannot be used any more never begins anew without being told to. */

import type { RefusedCheckpoint } from '@sluice/checkpoint';
import { SluiceError } from '@sluice/core';
import type { CheckpointHistory } from './checkpointHistory.ts';
import { describeRefused } from './locateCheckpoint.ts';
import { type RunDirectory, shellQuote } from './runDirectory.ts';

/**
 * Passes a run that has not come to its first checkpoint.
 * @param refused its checkpoints, none of which can be gone on from
 * @throws SLUICE_E_NO_CHECKPOINT with what is wrong with each
 */
export function refuseLostCheckpoints(
  run: RunDirectory,
  { committed, distrust }: CheckpointHistory,
  refused: readonly RefusedCheckpoint[],
): void {
  const wasOne = ({ step, problems }: RefusedCheckpoint) =>
    !distrust.has(step) && problems.some(({ kind }) => kind !== 'incomplete');
  if (committed.size === 0 && !refused.some(wasOne)) return;
  const command = `sluice resume ${shellQuote(run.path)} --from-scratch`;
  const reasons = refused.map(describeRefused);
  const gone = Math.max(...committed);
  const isGone = committed.size > 0 && !reasons.some(({ step }) => step === gone);
  const lines = [
    ...(isGone ? [{ step: gone, line: 'it was saved, and is not there any more' }] : []),
    ...reasons.map(({ step, reason, path }) => ({ step, line: `${reason} (${path})` })),
  ].sort((a, b) => b.step - a.step);
  throw new SluiceError(
    'SLUICE_E_NO_CHECKPOINT',
    [
      `${run.path} has no checkpoint that it could go on from:`,
      ...lines.map(({ step, line }) => `  step ${step}: ${line}`),
      `To give up what was trained and begin anew at step 0: ${command}`,
    ].join('\n'),
    { details: { runDir: run.path, refused: reasons, fromScratch: command } },
  );
}

/** @throws SLUICE_E_USAGE */
export function refuseNeedlessScratch(run: RunDirectory, step: number): never {
  throw new SluiceError(
    'SLUICE_E_USAGE',
    `${run.path} has a sound checkpoint of step ${step}, from which \`sluice resume\` goes on without --from-scratch. To train anew, start a new run.`,
    { details: { runDir: run.path, step } },
  );
}
