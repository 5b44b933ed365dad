/** `sluice evaluate --task`: how well a model retrieves from long contexts. */

import { readTextFile, SluiceError } from '@sluice/core';
import { NEEDLE_KEYS } from '@sluice/data';
import type { AnswerScores, HaystackChoice, LongContextResult } from '@sluice/evaluate';
import { formatLoss, terminalTable } from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import type { LongContextArguments } from '../cli/longContextOptions.ts';
import type { ScoredTextArguments } from '../cli/options.ts';
import { type ModelRequest, withModel } from './inference.ts';
import { percentLogger } from './percentLogger.ts';

export interface LongContextRequest extends LongContextArguments, ScoredTextArguments, ModelRequest {
  readonly task: NonNullable<LongContextArguments['task']>;
}

const DEFAULTS = { needles: 8, chains: 2, hops: 2, samples: 20, seed: 0 };

/** @throws the errors of `withModel` and of `InferenceModel.retrieve` */
export async function measureLongContext(
  request: LongContextRequest,
  log: (line: string) => void,
): Promise<CommandResult> {
  const { task } = request;
  const options = {
    task,
    needles: request.needles ?? DEFAULTS.needles,
    chains: request.chains ?? DEFAULTS.chains,
    hops: request.hops ?? DEFAULTS.hops,
    samples: request.samples ?? DEFAULTS.samples,
    seed: request.seed ?? DEFAULTS.seed,
    depths: request.depths ?? [0, 0.25, 0.5, 0.75, 1],
    onProgress: percentLogger('reading prompts', log),
  };
  refuseMistakes(request, options.chains * (options.hops + 1));
  const haystack = haystackOf(request);
  const { result, computedBy } = await withModel(request, log, (model) =>
    model.retrieve(haystack, { ...options, lengths: request.length ?? [model.sequenceLength] }),
  );
  const { seed, samples, needles, chains, hops } = options;
  return {
    json: {
      ...{ task, haystack: haystack.kind === 'noise' ? 'noise' : 'text', seed, samples },
      ...(task === 'niah' ? { needles } : { chains, hops }),
      ...result,
      ...computedBy,
    },
    text: tableOf(task, result),
  };
}

/** The flags that only one of the tasks has. */
const FLAGS_OF = { niah: ['needles', 'depths'], vt: ['chains', 'hops'] } as const;

/** @throws SLUICE_E_USAGE for a flag that changes nothing, and for more variables than there are words for */
function refuseMistakes(request: LongContextRequest, variables: number): void {
  const { task, haystack, text, data } = request;
  const other = task === 'niah' ? 'vt' : 'niah';
  const foreign = FLAGS_OF[other].find((flag) => request[flag] !== undefined);
  if (foreign) throw new SluiceError('SLUICE_E_USAGE', `--${foreign} is of --task ${other}, not of ${task}.`);
  if (haystack === 'noise' && (text ?? data) !== undefined) {
    throw new SluiceError('SLUICE_E_USAGE', '--haystack noise takes no text: leave out --text and --data.');
  }
  if (task === 'niah' || variables <= NEEDLE_KEYS.length) return;
  throw new SluiceError(
    'SLUICE_E_USAGE',
    `--chains times one more than --hops are ${variables} variables; there are words for ${NEEDLE_KEYS.length}.`,
  );
}

function haystackOf({ haystack, split, text, data }: LongContextRequest): HaystackChoice {
  const isText = haystack === 'text' || (text ?? data) !== undefined;
  if (!isText) return { kind: 'noise' };
  // Before the model, which takes longer to load than a mistyped path to see.
  if (text !== undefined) return { kind: 'text', text: readTextFile(text) };
  return { kind: 'corpus', split, dataDirectory: data };
}

const percent = (share: number) => `${(100 * share).toFixed(0)} %`;

/** A row for each length, then, for needles, one for each depth. */
function tableOf(
  task: LongContextRequest['task'],
  { candidates, results, lengths }: LongContextResult,
): string {
  const cells = ({ accuracy, recall, choiceAccuracy, answerLoss, samples }: AnswerScores) => [
    percent(accuracy),
    ...(task === 'vt' ? [percent(recall)] : []),
    percent(choiceAccuracy),
    formatLoss(answerLoss),
    String(samples),
  ];
  const rows = lengths.flatMap((summary) => [
    [String(summary.length), ...(task === 'niah' ? ['all'] : []), ...cells(summary)],
    ...(task === 'vt'
      ? []
      : results
          .filter(({ length }) => length === summary.length)
          .map((one) => ['', String(one.depth), ...cells(one)])),
  ]);
  const header = [
    'tokens',
    ...(task === 'niah' ? ['depth'] : []),
    'exact',
    ...(task === 'vt' ? ['words'] : []),
    `of ${candidates}`,
    'nats a token',
    'prompts',
  ];
  return terminalTable(rows, { header, align: header.map(() => 'right') });
}
