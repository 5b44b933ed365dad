/** Runs of this directory that are alive, and whether they can save. */

import { SluiceError } from '@sluice/core';
import { askCoordinator } from '../operate/askCoordinator.ts';
import { findCoordinator } from '../operate/liveRun.ts';
import { runsBelow } from '../operate/runsBelow.ts';
import { type FailedSave, failingSave } from '../run/failedSaves.ts';
import { readJournal } from '../run/journal.ts';
import { lockOwner } from '../run/lock.ts';
import { type RunDirectory, runDirectory } from '../run/runDirectory.ts';
import type { Finding } from './finding.ts';

/** How long a coordinator may take to answer, ms. */
const ANSWER_LIMIT_MS = 1000;

interface FailingRun extends FailedSave {
  readonly run: string;
}

/** @param folder of the runs */
export async function examineRuns(folder = 'runs'): Promise<Finding> {
  const name = 'runs';
  const alive = runsBelow(folder).filter((path) => lockOwner(runDirectory(path).lock)?.alive);
  const failing: FailingRun[] = [];
  for (const path of alive) {
    const failure = await failureOf(runDirectory(path));
    if (failure) failing.push({ run: path, ...failure });
  }
  const values = { alive: alive.length, failing };
  if (failing.length === 0) {
    const found = alive.length === 0 ? `none is alive in ${folder}/` : `${alive.length} alive, all can save`;
    return { name, found, ok: true, values };
  }
  const told = failing.map(({ run, step, message }) => `${run} could not save step ${step}: ${message}`);
  return {
    name,
    found: told.join(' '),
    ok: false,
    mend: 'make room, or mend what is told; training goes on meanwhile, and the next checkpoint is tried when it is due',
    values,
  };
}

/** As the coordinator tells it; what its journal says is older, where the disk does not take that either. */
async function failureOf(run: RunDirectory): Promise<FailedSave | undefined> {
  try {
    const live = await findCoordinator(run, 0);
    const saves = live && (await askCoordinator(live.contact, 'ps', ANSWER_LIMIT_MS)).saves;
    if (saves) {
      const { failures, lastFailure, requested } = saves;
      return failures > 0 ? { step: requested ?? 0, message: lastFailure ?? '' } : undefined;
    }
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
  }
  return failingSave(readJournal(run.journal));
}
