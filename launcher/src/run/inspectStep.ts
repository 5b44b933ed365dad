/** What the batch of one step held, and the batches of that step that the run gave up; on demand with their losses. */

import { newestValidCheckpoint, type ValidCheckpoint } from '@sluice/checkpoint';
import { SluiceError } from '@sluice/core';
import { openRunData, type Provenance, type RunData } from '@sluice/data';
import type { Computation } from '@sluice/engine';
import { documentLosses, type InferenceModel, type ScoredDocument } from '@sluice/evaluate';
import {
  counted,
  formatLoss,
  groupDigits,
  metricsOf,
  onOneLine,
  supersededRecords,
  terminalTable,
} from '@sluice/observe';
import { firstSampleOf, type Rollback, type RunConfig, sequencesAt } from '@sluice/train';
import type { CommandResult } from '../cli/command.ts';
import { findCorpora } from '../coordinator/corpora.ts';
import { checkpointHistory } from './checkpointHistory.ts';
import { type ModelRequest, withModel } from './inference.ts';
import { type JournalEntry, readJournal, startOf } from './journal.ts';
import { percentLogger } from './percentLogger.ts';
import { givenUpSteps, rollbacksOf } from './rollbacks.ts';
import { loadRunConfig } from './runConfig.ts';
import { existingRun, type RunDirectory } from './runDirectory.ts';

/** Documents of a batch whose losses are shown to people; JSON has all. */
const SHOWN_DOCUMENTS = 30;
/** Tokens of a document that are shown as text. */
const BEGINNING_TOKENS = 32;

export interface InspectStepOptions extends Pick<ModelRequest, 'backend' | 'precision'> {
  /** Whether the loss of each document is computed. */
  readonly losses: boolean;
}

interface Batch {
  /** Where the run went back when it gave the batch up; undefined for the one that it rests on. */
  readonly leftOut?: Rollback;
  readonly sequences: readonly LocatedSequence[];
}

interface LocatedSequence extends Provenance {
  readonly sample: number;
}

/**
 * The documents and shards of the samples that a step read, and its loss as far as that step was recorded.
 * @throws SLUICE_E_USAGE for a step beyond the run's, SLUICE_E_FILE_MISSING, SLUICE_E_RUN_MISSING, SLUICE_E_JOURNAL_DAMAGED;
 *   with losses SLUICE_E_NO_CHECKPOINT and the errors of `withModel`
 */
export async function inspectStep(
  path: string,
  step: number,
  { losses, ...computing }: InspectStepOptions,
  log: (line: string) => void,
): Promise<CommandResult> {
  const run = existingRun(path);
  const config = loadRunConfig(run.config, {});
  refuseBeyond(step, config);
  const journal = readJournal(run.journal);
  const { datasetHash } = startOf(journal) ?? {};
  const { directories } = await findCorpora({ data: config.data, datasetHash }, log);
  const opened = openRunData(config.data, config.seed, directories);
  try {
    const sampler = opened.train;
    const batches = batchesOf(config, journal, step, sampler);
    const record = metricsOf(run.metrics, step);
    const before = supersededRecords(run.path, step);
    const scored = losses
      ? await scoreBatches({ run, journal, step, sampler, batches, ...computing }, log)
      : undefined;
    const [current, ...givenUp] = batches as [Batch, ...Batch[]];
    return {
      text: [
        `step ${step}: ${record ? `loss ${formatLoss(record.loss)}` : 'not recorded'}`,
        ...before.map(
          ({ file, record: { loss } }) => `  loss ${formatLoss(loss)} before it was superseded (${file})`,
        ),
        ...(scored ? weightsLines(scored.checkpoint, step) : []),
        ...batches.flatMap((batch, i) => [
          ...headingOf(batch),
          ...(scored ? lossLines(scored.documents[i]!) : batch.sequences.flatMap(sequenceLines)),
        ]),
      ].join('\n'),
      json: {
        ...{ runDir: run.path, step, loss: record?.loss ?? null, gradientNorm: record?.gradientNorm ?? null },
        superseded: before.map(({ file, record: { loss, gradientNorm } }) => ({ file, loss, gradientNorm })),
        ...(scored && {
          checkpoint: { step: scored.checkpoint.step, path: scored.checkpoint.directory },
          ...scored.computedBy,
        }),
        sequences: current.sequences,
        ...(scored && { documents: scored.documents[0] }),
        leftOut: givenUp.map(({ leftOut, sequences }, i) => ({
          ...{ from: leftOut!.step, to: leftOut!.to, root: leftOut!.root, sequences },
          ...(scored && { documents: scored.documents[i + 1] }),
        })),
      },
    };
  } finally {
    opened.close();
  }
}

function refuseBeyond(step: number, { training: { steps } }: RunConfig): void {
  if (step <= steps) return;
  throw new SluiceError('SLUICE_E_USAGE', `--step is ${step}, but the run has ${steps} steps.`, {
    details: { step, steps },
  });
}

/** The batch that the step has in the run as it is, then those that were left out when the run went back, oldest first. */
function batchesOf(
  config: RunConfig,
  journal: readonly JournalEntry[],
  step: number,
  sampler: RunData['train'],
): Batch[] {
  const read = (rollbacks: readonly Rollback[]): LocatedSequence[] => {
    const first = firstSampleOf(config, step, rollbacks);
    return Array.from({ length: sequencesAt(config, step) }, (_, i) => ({
      sample: first + i,
      ...sampler.provenance(first + i),
    }));
  };
  const givenUp = givenUpSteps(journal).filter(
    ({ entry: { decision } }) => decision.to < step && step <= decision.step,
  );
  return [
    { sequences: read(rollbacksOf(journal)) },
    ...givenUp.map(({ entry, earlier }) => ({ leftOut: entry.decision, sequences: read(earlier) })),
  ];
}

interface Scoring extends Pick<ModelRequest, 'backend' | 'precision'> {
  readonly run: RunDirectory;
  readonly journal: readonly JournalEntry[];
  readonly step: number;
  readonly sampler: RunData['train'];
  readonly batches: readonly Batch[];
}

interface ScoredBatches {
  readonly checkpoint: ValidCheckpoint;
  /** For each batch its documents, highest loss first. */
  readonly documents: readonly (readonly ShownDocument[])[];
  readonly computedBy: Computation;
}

/** A scored document with the beginning of its text in place of its ids. */
type ShownDocument = Omit<ScoredDocument, 'ids'> & { readonly beginning: string | null };

async function scoreBatches(
  { run, journal, step, sampler, batches, ...computing }: Scoring,
  log: (line: string) => void,
): Promise<ScoredBatches> {
  const checkpoint = await checkpointFor(run, journal, step);
  const request = { source: checkpoint.directory, ...computing };
  const { result: documents, computedBy } = await withModel(request, log, async (model) => {
    const decode = await decoderOfText(model, log);
    const progress = percentLogger('computing losses', log);
    const size = batches[0]!.sequences.length;
    const scored: ShownDocument[][] = [];
    for (const [i, { sequences }] of batches.entries()) {
      const documents = await documentLosses(model.decoder, sampler, sequences, (done) =>
        progress(i * size + done, batches.length * size),
      );
      scored.push(documents.map(({ ids, ...document }) => ({ ...document, beginning: decode(ids) })));
    }
    return scored;
  });
  return { checkpoint, documents, computedBy };
}

/** A model whose tokenizer is gone can score tokens all the same. */
async function decoderOfText(
  model: InferenceModel,
  log: (line: string) => void,
): Promise<(ids: Int32Array) => string | null> {
  try {
    const { tokenizer } = await model.codec();
    return (ids) => tokenizer.decode(ids.subarray(0, BEGINNING_TOKENS));
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    log(`no text is shown: ${error.message}`);
    return () => null;
  }
}

/**
 * The newest sound checkpoint that is not of a later step; where there is none any more, the oldest of all.
 * @throws SLUICE_E_NO_CHECKPOINT
 */
async function checkpointFor(
  { path }: RunDirectory,
  journal: readonly JournalEntry[],
  step: number,
): Promise<ValidCheckpoint> {
  const { distrust } = checkpointHistory(journal);
  const { checkpoint } = await newestValidCheckpoint(path, { distrust, upTo: step });
  if (checkpoint) return checkpoint;
  for (let upTo = Number.POSITIVE_INFINITY, oldest: ValidCheckpoint | undefined; ; upTo = oldest.step - 1) {
    const { checkpoint: earlier } = await newestValidCheckpoint(path, { distrust, upTo });
    if (earlier) oldest = earlier;
    else if (oldest) return oldest;
    else {
      throw new SluiceError(
        'SLUICE_E_NO_CHECKPOINT',
        `${path} has no sound checkpoint to compute losses with.`,
        {
          details: { runDir: path },
        },
      );
    }
  }
}

function weightsLines({ step: saved, directory }: ValidCheckpoint, step: number): string[] {
  const which =
    saved < step ? 'before the step' : saved === step ? 'after the step' : 'none is of the step or before it';
  return [`losses under the weights of step ${saved}, ${which} (${directory})`];
}

function headingOf({ leftOut }: Batch): string[] {
  return leftOut
    ? ['', `left out when the run went back from step ${leftOut.step} to step ${leftOut.to}`]
    : [];
}

function sequenceLines({ sample, corpus, epoch, sequence, shards, documents }: LocatedSequence): string[] {
  return [
    `sample ${sample}: ${corpus === undefined ? '' : `${corpus}, `}sequence ${sequence} of epoch ${epoch}, ${shards.map(shardText).join(', ')}`,
    ...documents.map((document) => `  ${document.source} ${document.name} (document ${document.index})`),
  ];
}

function shardText(shard: { readonly file: string; readonly start: number; readonly end: number }): string {
  return `${shard.file}[${shard.start}, ${shard.end})`;
}

function lossLines(documents: readonly ShownDocument[]): string[] {
  const shown = documents.slice(0, SHOWN_DOCUMENTS);
  const rows = shown.map(({ loss, tokens, sample, source, name, index, beginning }) => [
    loss === null ? '–' : formatLoss(loss),
    ...[String(tokens), groupDigits(sample), `${source} ${name} (document ${index})`],
    beginning === null ? '' : quoted(beginning),
  ]);
  const header = ['loss', 'tokens', 'sample', 'document', 'text'];
  const align = ['right', 'right', 'right', 'left', 'left'] as const;
  const more = documents.length - shown.length;
  return [
    terminalTable(rows, { header, align }),
    ...(more > 0 ? [`and ${counted(more, 'document')} of lower loss; --json has all`] : []),
    `mean of the batch: ${formatLoss(meanLoss(documents))}`,
  ];
}

/** As the step's own loss: each token counts alike. */
function meanLoss(documents: readonly ShownDocument[]): number {
  const tokens = documents.reduce((sum, document) => sum + document.tokens, 0);
  return documents.reduce((sum, document) => sum + (document.loss ?? 0) * document.tokens, 0) / tokens;
}

const SHOWN_CHARACTERS = 48;

function quoted(text: string): string {
  const line = [...onOneLine(text).trim()];
  return `“${line.slice(0, SHOWN_CHARACTERS).join('')}${line.length > SHOWN_CHARACTERS ? '…' : ''}”`;
}
