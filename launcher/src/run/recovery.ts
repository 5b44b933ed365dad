/** How to go on after a run has stopped because its numbers were not finite. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { checkpointDirectory } from '@sluice/checkpoint';
import type { RunConfig } from '@sluice/train';
import { checkpointHistory } from './checkpointHistory.ts';
import { readJournal } from './journal.ts';
import { type RunDirectory, shellQuote } from './runDirectory.ts';

/** A learning rate that a model of any size has a chance with. */
const USUAL_RATE = 1e-3;

/**
 * The command that goes on from the newest sound checkpoint, or from the beginning where there is none, at a rate that is a
 * tenth of this one and no more than a usual one: the same rate would lead to the same numbers again, bit by bit.
 */
export function recoveryFromNonFinite(
  run: RunDirectory,
  { optimizer }: Pick<RunConfig, 'optimizer'>,
): { readonly text: string; readonly command: string } {
  const { committed, distrust } = checkpointHistory(readJournal(run.journal));
  const sound = [...committed].filter((step) => !distrust.has(step) && isThere(run, step));
  const rate = Number(Math.min(optimizer.learningRate / 10, USUAL_RATE).toPrecision(3));
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
