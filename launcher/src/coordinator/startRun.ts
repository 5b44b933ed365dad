/** Starts a new run: everything is checked before its directory is made, and the directory before any process. */

import { hashConfig } from '@sluice/core';
import type { CommandResult } from '../cli/command.ts';
import { type Fleet, localFleet } from '../fleet/fleet.ts';
import {
  checkInitialTokenizer,
  checkInitialWeights,
  type InitialWeights,
  initialWeightsLines,
} from '../run/initialWeights.ts';
import { type Journal, openJournal } from '../run/journal.ts';
import { acquireRunLock } from '../run/lock.ts';
import { type ConfigFlags, freezeRunConfig, loadNewRunConfig } from '../run/runConfig.ts';
import { directoryForRun, makeRunDirectory, refuseExistingRun } from '../run/runDirectory.ts';
import { configInRun, pathInRun } from '../run/runPaths.ts';
import { newRunId } from '../run/runToken.ts';
import { adoptTokenizer } from '../run/runTokenizer.ts';
import { beyondTheEnd, lastStepOf, type StopFlags } from '../run/stopPoint.ts';
import { refuseAbsentBackend, validateConfig, validateVocabulary } from '../run/validate.ts';
import { type BesideOptions, startBeside } from '../watch/beside.ts';
import { prepareCorpora } from './corpora.ts';
import { aloneLines, checkMachine } from './machine.ts';
import { openNotifier } from './notifier.ts';
import { runSession } from './session.ts';
import { checkSplits } from './splits.ts';
import { concludeRun } from './summary.ts';
import type { Session } from './underway.ts';

export interface StartRunOptions extends ConfigFlags, StopFlags, BesideOptions {
  readonly config: string;
  readonly runDir?: string | undefined;
  /** What the run is to be told from others by; a new id when left out. */
  readonly id?: string | undefined;
}

/**
 * Trains a new run to its end, a stop signal or the step asked for.
 * @param givenFleet its hosts; this machine alone when left out
 * @throws coded errors of the configuration, the data, the run directory and the workers
 */
export async function startRun(
  options: StartRunOptions,
  log: (line: string) => void,
  givenFleet?: Fleet,
): Promise<CommandResult> {
  const config = await loadNewRunConfig(options.config, options, log);
  validateConfig(config);
  if (!givenFleet) aloneLines(config).forEach(log);
  const fleet = givenFleet ?? localFleet();
  // Other hosts have it, or say that they have not.
  if (fleet.isHere) refuseAbsentBackend(config);
  const lastStep = lastStepOf(options, 0, config.training.steps);
  beyondTheEnd(options, 0, config.training.steps).forEach(log);
  const path = options.runDir ?? directoryForRun(config, options.config);
  refuseExistingRun(path);
  checkMachine(config, fleet.hosts()).forEach(log);
  const from = await checkInitialWeights(config);
  const corpora = await prepareCorpora(config.data, log);
  const [tokenizerOf] = corpora.directories;
  validateVocabulary(config.model.vocabularySize, corpora.vocabularySize);
  checkSplits(config, corpora.directories).forEach(log);
  await checkInitialTokenizer(config, tokenizerOf!, log);

  const notifier = openNotifier(path, config, log);
  const run = makeRunDirectory(path);
  const lock = await acquireRunLock(run.lock, log);
  let closeBeside = () => {};
  try {
    // Another process may have started a run here while the data were prepared.
    refuseExistingRun(path);
    const tokenizer = await adoptTokenizer(run, config, tokenizerOf!);
    await freezeRunConfig(run.config, config);
    const journal = notifier.listenTo(openJournal(run.journal, lock.assertOwned));
    try {
      const id = options.id ?? newRunId();
      noteStart(journal, { id, run, config, corpora, from, tokenizer });
      if (from) initialWeightsLines(from).forEach(log);
      closeBeside = await startBeside(run.path, options, config, log);
      const outcome = await runSession({
        run,
        config,
        corpora,
        tokenizer,
        journal,
        lastStep,
        fleet,
        lock,
        id,
      });
      return await concludeRun({ run, config, corpora }, outcome);
    } finally {
      journal.close();
      await notifier.close();
    }
  } finally {
    lock.release();
    // What runs beside is to see how the run ended.
    closeBeside();
  }
}

/** What a run begins with. */
interface Beginning extends Pick<Session, 'id' | 'run' | 'config' | 'corpora' | 'tokenizer'> {
  readonly from: InitialWeights | undefined;
}

/** Writes down what a run begins with: from then on it has begun. */
export function noteStart(journal: Journal, { id, run, config, corpora, from, tokenizer }: Beginning): void {
  journal.append('start', 0, {
    id,
    configHash: hashConfig(configInRun(run.path, config)),
    datasetHash: corpora.datasetHash,
    workers: config.parallel.workers,
    expertParallel: config.parallel.expertParallel,
    ...(from && { from: { ...from, path: pathInRun(run.path, from.path) } }),
    tokenizer,
  });
}
