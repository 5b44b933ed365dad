/** How to go on after a run has stopped because its numbers were not finite, or for a spike. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { checkpointDirectory } from '@sluice/checkpoint';
import type { RunConfig } from '@sluice/train';
import { checkpointHistory } from './checkpointHistory.ts';
import { readJournal } from './journal.ts';
import { type RunDirectory, shellQuote } from './runDirectory.ts';

/** The way out of a stop. */
export interface Recovery {
  /** For people, with the command. */
  readonly text: string;
  readonly command: string;
}

/** How the rate is changed: to a tenth and no more than a usual one, to a half, or not at all. */
export type RecoveryRate = 'usual' | 'half' | 'same';

/** A learning rate that a model of any size has a chance with. */
const USUAL_RATE = 1e-3;

/**
 * The command that goes on from the newest sound checkpoint, or from the beginning where there is none, at a lower rate: the
 * same rate would lead to the same numbers again, bit by bit.
 */
export function recoveryFromStop(
  run: RunDirectory,
  { optimizer }: Pick<RunConfig, 'optimizer'>,
  rateChange: RecoveryRate,
): Recovery {
  if (rateChange === 'same') {
    const command = `sluice resume ${shellQuote(run.path)}`;
    return { text: `To go on, the samples of the step left out: ${command}`, command };
  }
  const { committed, distrust } = checkpointHistory(readJournal(run.journal));
  const sound = [...committed].filter((step) => !distrust.has(step) && isThere(run, step));
  const { learningRate } = optimizer;
  const lower = rateChange === 'half' ? learningRate / 2 : Math.min(learningRate / 10, USUAL_RATE);
  const rate = Number(lower.toPrecision(3));
  const command = [
    `sluice resume ${shellQuote(run.path)}`,
    ...(sound.length === 0 && committed.size > 0 ? ['--from-scratch'] : []),
    `--set optimizer.learningRate=${rate} --allow optimizer.learningRate`,
  ].join(' ');
  const from =
    sound.length > 0
      ? `The newest sound checkpoint is of step ${Math.max(...sound)}. To go on from it`
      : committed.size > 0
        ? 'No checkpoint is sound. To begin anew at step 0'
        : 'There is no checkpoint yet. To begin anew at step 0';
  return { text: `${from} at a lower rate: ${command}`, command };
}

function isThere(run: RunDirectory, step: number): boolean {
  return existsSync(join(checkpointDirectory(run.path, step), 'manifest.json'));
}
