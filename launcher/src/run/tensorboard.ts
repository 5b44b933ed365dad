/** `sluice tensorboard`: the logs of a run as TensorBoard reads them. */

import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { SluiceError } from '@sluice/core';
import { convertToTensorboard, counted, TENSORBOARD_FOLDER } from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import { interruptible } from '../signals/interruptible.ts';
import { readJournal } from './journal.ts';
import { percentLogger } from './percentLogger.ts';
import { loadRunConfig } from './runConfig.ts';
import { existingRun, shellQuote } from './runDirectory.ts';
import { configInRun } from './runPaths.ts';

/**
 * @throws SLUICE_E_RUN_MISSING, SLUICE_E_FILE_UNWRITABLE, SLUICE_E_USAGE where the folder holds event files already,
 *   SLUICE_E_INTERRUPTED
 */
export async function writeTensorboard(
  path: string,
  out: string | undefined,
  log: (line: string) => void,
): Promise<CommandResult> {
  const run = existingRun(path);
  const folder = resolve(out ?? join(run.path, TENSORBOARD_FOLDER));
  if (existsSync(folder) && readdirSync(folder).some((name) => name.includes('.tfevents.'))) {
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `${folder} holds event files already, which TensorBoard would mix with these: remove them, or name another folder by --out.`,
      { details: { folder } },
    );
  }
  const config = configInRun(run.path, loadRunConfig(run.config, {}));
  const hasFinished = readJournal(run.journal).some(
    (entry) => entry.kind === 'stop' && entry.reason === 'finished',
  );
  const written = await interruptible((signal) =>
    convertToTensorboard(run.path, folder, config, hasFinished, percentLogger('writing events', log, signal)),
  );
  return {
    text: `${counted(written.steps, 'step')} and ${counted(written.measurements, 'measurement')} in ${folder}\n  tensorboard --logdir ${shellQuote(folder)}`,
    json: { folder, ...written },
  };
}
