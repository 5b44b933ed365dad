/** `sluice evaluate --task`: how well a model retrieves from long contexts. */

import { readTextFile, SluiceError } from '@sluice/core';
import { NEEDLE_KEYS } from '@sluice/data';
import type { AnswerScores, HaystackChoice, LongContextResult } from '@sluice/evaluate';
import { formatLoss, terminalTable } from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import type { LongContextArguments } from '../cli/longContextOptions.ts';
import type { ScoredTextArguments } from '../cli/options.ts';
import { withModel } from './inference.ts';
import { percentLogger } from './percentLogger.ts';

export interface LongContextRequest extends LongContextArguments, ScoredTextArguments {
  readonly source: string;
  readonly task: NonNullable<LongContextArguments['task']>;
  readonly set?: readonly string[] | undefined;
}

const DEFAULTS = { needles: 8, chains: 2, hops: 2, samples: 20, seed: 0 };

/** @throws the errors of `withModel` and of `InferenceModel.retrieve` */
export async function measureLongContext(
  request: LongContextRequest,
  log: (line: string) => void,
): Promise<CommandResult> {
  const { source, set, task } = request;
  const haystack = haystackOf(request);
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
  refuseTooManyVariables(options);
  const result = await withModel({ source, set }, log, (model) =>
    model.retrieve(haystack, { ...options, lengths: request.length ?? [model.sequenceLength] }),
  );
  const { seed, samples, needles, chains, hops } = options;
  return {
    json: {
      ...{ task, haystack: haystack.kind === 'noise' ? 'noise' : 'text', seed, samples },
      ...(task === 'niah' ? { needles } : { chains, hops }),
      ...result,
    },
    text: tableOf(task, result),
  };
}

/** @throws SLUICE_E_USAGE */
function refuseTooManyVariables({ task, chains, hops }: typeof DEFAULTS & { task: string }): void {
  const variables = chains * (hops + 1);
  if (task !== 'vt' || variables <= NEEDLE_KEYS.length) return;
  throw new SluiceError(
    'SLUICE_E_USAGE',
    `--chains ${chains} --hops ${hops}  are ${variables} variables; there are words for ${NEEDLE_KEYS.length}.`,
  );
}

function haystackOf({ haystack = 'noise', split, text, data }: LongContextRequest): HaystackChoice {
  if (haystack === 'noise') return { kind: 'noise' };
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
