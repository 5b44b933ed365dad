/** What a run has come to: report, sampled text, and the words and numbers at the end. */

import { existsSync } from 'node:fs';
import { checkpointDirectory } from '@sluice/checkpoint';
import { SluiceError } from '@sluice/core';
import { loadForInference } from '@sluice/evaluate';
import {
  appendSamples,
  formatCount,
  formatLoss,
  onOneLine,
  readSamples,
  writeHtmlReport,
} from '@sluice/observe';
import { type RunConfig, SamplesConfig } from '@sluice/train';
import type { CommandResult } from '../cli/command.ts';
import { type FailedSave, failedSaves } from '../run/failedSaves.ts';
import { readJournal } from '../run/journal.ts';
import { describeCheckpoints, journalFacts } from '../run/reportFacts.ts';
import { type RunDirectory, runName, shellQuote } from '../run/runDirectory.ts';
import { configInRun } from '../run/runPaths.ts';
import { ABORTED_EXIT_CODE, installStopSignal } from '../signals/stopSignal.ts';
import type { CommittedCheckpoint } from './checkpoints.ts';
import type { RunCorpora } from './corpora.ts';
import { holdsOut } from './splits.ts';
import type { CoordinatorState } from './state.ts';
import type { SessionOutcome } from './underway.ts';

export interface RunFacts {
  readonly run: RunDirectory;
  readonly config: RunConfig;
  readonly corpora: RunCorpora;
}

/**
 * Writes the report of a run that has stopped, and says what it has come to. Where a signal asks for a stop meanwhile, the run has
 * stopped, and is saved; a second one ends the process.
 */
export async function concludeRun(facts: RunFacts, outcome: SessionOutcome): Promise<CommandResult> {
  const stop = installStopSignal({ onRequest: () => {}, onAbort: () => process.exit(ABORTED_EXIT_CODE) });
  try {
    return await conclude(facts, outcome);
  } finally {
    stop.uninstall();
  }
}

async function conclude(facts: RunFacts, outcome: SessionOutcome): Promise<CommandResult> {
  const sampled = outcome.reason === 'finished' ? await sampleIfPossible(facts, outcome) : undefined;
  const { run, config, corpora } = facts;
  const { validationLoss } = outcome.state;
  const journal = readJournal(run.journal);
  const report = await writtenReport(run.path, {
    title: runName(config, run.path),
    config: configInRun(run.path, config),
    parameters: outcome.parameters,
    ...(corpora.unigramLoss !== null && { unigramLoss: corpora.unigramLoss }),
    ...(validationLoss !== null && { finalValidationLoss: validationLoss }),
    hasValidation: holdsOut(corpora),
    checkpoints: await describeCheckpoints(run.path, journal),
    ...journalFacts(journal),
  });
  const title = STOP_TITLES[outcome.reason];
  const result = summarize(facts, title, outcome.state, outcome.checkpoint, {
    tokensPerSecond: outcome.tokensPerSecond,
    report,
    ...(sampled && { sampled }),
  });
  return { ...result, stoppedEarly: outcome.reason === 'signal' && !outcome.isStopFinal };
}

/** What a run that had finished before has come to; without a report where that was cut off. */
export function summarizeFinished(
  facts: RunFacts,
  state: CoordinatorState,
  checkpoint: CommittedCheckpoint,
): CommandResult {
  return summarize(facts, 'this run had finished', state, checkpoint, {
    tokensPerSecond: null,
    report: { path: existsSync(facts.run.report) ? facts.run.report : null, text: undefined },
  });
}

const STOP_TITLES: Readonly<Record<SessionOutcome['reason'], string>> = {
  finished: 'finished',
  lastStep: 'stopped after the step asked for (--until-step, --more-steps)',
  signal: 'stopped by a signal',
  regroup: 'stopped to spread the workers anew',
};

/** The report's path; in words why there is none where it cannot be written: all that it shows is saved without it. */
async function writtenReport(...[path, facts]: Parameters<typeof writeHtmlReport>): Promise<Report> {
  try {
    return { path: await writeHtmlReport(path, facts), text: undefined };
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    return { path: null, text: `not written: ${error.message}` };
  }
}

interface Report {
  readonly path: string | null;
  /** Said in its place. */
  readonly text: string | undefined;
}

interface Sample {
  readonly prompt: string;
  readonly text: string;
}

/** A sample, or in words why there is none. */
interface Sampled {
  readonly sample?: Sample;
  /** What its line shows. */
  readonly shown: string;
}

/** A run has finished with or without a sample: its tokenizer, for one, may be another one now. Undefined where none is wanted. */
async function sampleIfPossible(facts: RunFacts, outcome: SessionOutcome): Promise<Sampled | undefined> {
  const settings = facts.config.observe?.samples ?? SamplesConfig.parse({});
  const [prompt] = settings.prompts;
  if (prompt === undefined) return undefined;
  try {
    const sample =
      (await lastSample(facts, outcome)) ?? (await sampleText(facts, outcome, { ...settings, prompt }));
    return { sample, shown: `${sample.prompt}${sample.text}` };
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    return { shown: `none: ${error.message}` };
  }
}

/** The first that the workers wrote after the last step. */
async function lastSample({ run, config }: RunFacts, { state }: SessionOutcome): Promise<Sample | undefined> {
  if (!config.observe?.samples?.everySteps) return undefined;
  for await (const { step, prompt, text } of readSamples(run.samples)) {
    if (step === state.step) return { prompt, text };
  }
  return undefined;
}

/** Writes one, and keeps it in the run. */
async function sampleText(
  { run, config }: RunFacts,
  { checkpoint, state }: SessionOutcome,
  { prompt, maxTokens, temperature }: { prompt: string; maxTokens: number; temperature: number },
): Promise<Sample> {
  const model = await loadForInference(checkpoint.path, {
    backend: config.backend,
    precision: config.precision,
    threads: config.parallel.threads,
  });
  try {
    const { text } = await model.generate({ prompt, maxTokens, temperature, seed: config.seed });
    appendSamples(run.samples, [{ step: state.step, prompt, text }]);
    return { prompt, text };
  } finally {
    model.close();
  }
}

function summarize(
  { run, config, corpora }: RunFacts,
  title: string,
  state: CoordinatorState,
  checkpoint: CommittedCheckpoint,
  extra: { tokensPerSecond: number | null; report: Report; sampled?: Sampled },
): CommandResult {
  const { step, trainLoss, validationLoss, bestValidationLoss, tokens } = state;
  const { unigramLoss } = corpora;
  const better = validationLoss === null || unigramLoss === null ? null : unigramLoss - validationLoss;
  const finished = step >= config.training.steps;
  const unsaved = failedSaves(readJournal(run.journal));
  const reportLine = extra.report.text ?? extra.report.path;
  const rate =
    extra.tokensPerSecond === null ? '' : `, ${formatCount(Math.round(extra.tokensPerSecond))} tokens/s`;
  const lines: (readonly [string, string] | undefined)[] = [
    ['step', `${step} of ${config.training.steps}, ${formatCount(tokens)} tokens${rate}`],
    trainLoss === null ? undefined : ['train loss', `${formatLoss(trainLoss)} nats a token`],
    validationLine(corpora, validationLoss),
    better === null
      ? undefined
      : [
          'unigram model',
          `${formatLoss(unigramLoss!)} on the same split: the run is ${betterOrWorse(better)}`,
        ],
    extra.sampled && ['sample', onOneLine(extra.sampled.shown)],
    ['weights', checkpoint.weights],
    ['checkpoint', checkpointDirectory(run.path, checkpoint.step)],
    unsaved.length === 0 ? undefined : ['not saved', unsavedText(unsaved)],
    ['run', run.path],
    reportLine === null ? undefined : ['report', reportLine],
    finished ? undefined : ['go on', `sluice resume ${shellQuote(run.path)}`],
  ];
  const shown = lines.filter((line) => line !== undefined);
  return {
    text: [title, ...shown.map(([label, value]) => `  ${label.padEnd(16)} ${value}`)].join('\n'),
    json: {
      runDir: run.path,
      step,
      finished,
      trainLoss,
      validationLoss,
      bestValidationLoss,
      unigramLoss,
      tokens,
      tokensPerSecond: extra.tokensPerSecond,
      weightsHash: checkpoint.weights,
      checkpoint: checkpoint.path,
      ...(unsaved.length > 0 && { failedSaves: unsaved }),
      report: extra.report.path,
      ...(extra.sampled?.sample && { sample: extra.sampled.sample }),
    },
  };
}

function unsavedText(failed: readonly FailedSave[]): string {
  const { step, message } = failed.at(-1)!;
  const before = failed.length === 1 ? '' : `${failed.length} checkpoints, the last of them `;
  return `${before}step ${step}: ${message}`;
}

function validationLine(
  corpora: RunCorpora,
  validationLoss: number | null,
): readonly [string, string] | undefined {
  if (!holdsOut(corpora)) return ['validation loss', 'no validation: the corpus holds nothing out'];
  return validationLoss === null
    ? undefined
    : ['validation loss', `${formatLoss(validationLoss)} nats a token`];
}

function betterOrWorse(difference: number): string {
  const amount = `${formatLoss(Math.abs(difference))} nats a token`;
  return difference >= 0 ? `${amount} better` : `${amount} worse`;
}
