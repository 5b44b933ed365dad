/** How verdicts are told: to people in a terminal, as JSON, and as a page of Markdown with what it rests on. */

import {
  compareRows,
  type Estimate,
  type ExperimentResults,
  type FindLrResults,
  formatNumber,
  questionsOf,
  summarizeRows,
  terminalTable,
} from '@sluice/observe';
import type { JudgedClaim, JudgedTest, Verdict } from './judge.ts';

export function claimAsJson({ claim, verdict, requires, tests }: JudgedClaim) {
  const [first] = tests;
  const asJson = ({ test, ...judged }: JudgedTest) => ({ ...judged, test });
  return {
    id: claim.id,
    claim: claim.claim,
    verdict,
    /** Of the first of its tests. */
    effect: first?.effect ?? null,
    interval: first?.interval ?? null,
    seeds: first?.seeds ?? 0,
    requires: requires.map(asJson),
    tests: tests.map(asJson),
    limits: claim.limits ?? null,
    decides: claim.decides,
  };
}

export function claimsText(title: string, judged: readonly JudgedClaim[]): string {
  const rows = judged.map(({ claim, verdict, tests }) => [
    String(claim.id),
    verdict,
    countOf(tests),
    claim.claim,
  ]);
  const table = terminalTable(rows, {
    header: ['', 'verdict', 'tests', 'claim'],
    align: ['right', 'left', 'left', 'left'],
  });
  const tally = (['supported', 'contradicted', 'undecided'] as const)
    .map((verdict) => `${judged.filter((one) => one.verdict === verdict).length} ${verdict}`)
    .join(', ');
  const details = judged.flatMap(({ claim, requires, tests }) => [
    '',
    `${claim.id}. ${claim.claim}`,
    ...requires.map((test) => `   supposed, ${test.verdict}: ${testText(test)}`),
    ...tests.map((test) => `   ${test.verdict}: ${testText(test)}`),
    ...(claim.limits ? [`   limits: ${claim.limits}`] : []),
    `   what would decide it: ${claim.decides}`,
  ]);
  return [`${title}: ${tally}, at this scale`, '', table, ...details].join('\n');
}

function countOf(tests: readonly JudgedTest[]): string {
  if (tests.length === 0) return 'none here';
  return `${tests.filter(({ verdict }) => verdict === 'supported').length} of ${tests.length}`;
}

/** `validationLoss of a to b: −0.21 [−0.30, −0.12], n = 3`. */
function testText({ text, effect, interval, seeds }: JudgedTest): string {
  if (effect === null) return text;
  const ends = interval ? ` [${signed(interval.low)}, ${signed(interval.high)}]` : '';
  return `${text}: ${signed(effect)}${ends}, n = ${seeds}`;
}

function signed(value: number): string {
  return formatNumber(value).replace('-', '−');
}

const MARKS: Readonly<Record<Verdict, string>> = {
  supported: '**supported**',
  contradicted: '**contradicted**',
  undecided: 'undecided',
};

/** What verdicts rest on is below them: each run with the hashes of its configuration and its weights. */
export function claimsMarkdown(
  judged: readonly JudgedClaim[],
  experiments: readonly ExperimentResults[],
  rates: readonly FindLrResults[],
): string {
  const rows = judged.map(
    ({ claim, verdict, requires, tests }) =>
      `| ${claim.id} | ${claim.claim} | ${claim.paper ?? ''} | ${MARKS[verdict]} | ${[
        ...requires.map((test) => `supposed, ${test.verdict}: ${testText(test)}`),
        ...tests.map((test) => `${test.verdict}: ${testText(test)}`),
      ].join('<br>')} | ${[claim.limits, claim.decides].filter((text) => text !== undefined).join(' ')} |`,
  );
  return [
    '| | Claim | The paper’s numbers | Verdict | Tests: mean over seeds, 95 % interval | Limits, and what would decide it |',
    '| --- | --- | --- | --- | --- | --- |',
    ...rows,
    ...experiments.flatMap(experimentSection),
    ...rates.flatMap(ratesSection),
    '',
  ].join('\n');
}

function experimentSection(results: ExperimentResults): string[] {
  const { name, scale, title, version, arithmetic, runs } = results;
  return [
    '',
    `### ${title}`,
    '',
    `\`sluice experiment\` of \`${name}.yaml\`, scale ${scale}, version ${version}, arithmetic ${arithmetic}.`,
    '',
    ...rowsTable(results),
    ...retrievalTable(results),
    '',
    '| Row | Seed | Outcome | Validation loss | Spikes | Configuration | Weights |',
    '| --- | --- | --- | --- | --- | --- | --- |',
    ...runs.map(
      (run) =>
        `| ${run.row} | ${run.seed} | ${run.outcome} | ${run.validationLoss?.toFixed(4) ?? ''} | ${run.spikes} | ${short(run.configHash)} | ${short(run.weightsHash)} |`,
    ),
  ];
}

/** Means over the seeds that finished, beside the paper's numbers. */
function rowsTable(results: ExperimentResults): string[] {
  const compared = new Map(compareRows(results).map(({ row, loss }) => [row.name, loss]));
  const shown = (estimate: Estimate | undefined, digits: number) =>
    estimate ? `${estimate.mean.toFixed(digits)}${spreadOf(estimate, digits)}` : '';
  return [
    '| Row | Parameters | Validation loss | Over its baseline | Perplexity | The paper’s | First-token attention | Massive activation | Gate score |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ...summarizeRows(results).map((summary) => {
      const { row } = summary;
      const loss = compared.get(row.name);
      const difference = loss?.interval
        ? `${signed(loss.mean)} [${signed(loss.interval.low)}, ${signed(loss.interval.high)}]`
        : '';
      const cells = [
        row.name,
        row.parameters.total.toLocaleString('en-US'),
        shown(summary.validationLoss, 3),
        difference,
        shown(summary.perplexity, 0),
        row.paper.perplexity === null ? 'diverged' : String(row.paper.perplexity ?? ''),
        shown(summary.firstTokenAttention, 3),
        shown(summary.massiveActivation, 2),
        shown(summary.gateScoreMean, 3),
      ];
      return `| ${cells.join(' | ')} |`;
    }),
  ];
}

/** Prompts answered exactly, means over the seeds that finished; empty where nothing was asked. */
function retrievalTable(results: ExperimentResults): string[] {
  const questions = questionsOf(results.runs);
  if (questions.length === 0) return [];
  const percent = (accuracy: Estimate | undefined) => {
    if (!accuracy) return '';
    const { mean, spread } = accuracy;
    return `${(100 * mean).toFixed(0)} %${spreadOf({ spread: spread && 100 * spread }, 0)}`;
  };
  return [
    '',
    `| Answered exactly | ${questions.join(' | ')} |`,
    `| --- |${questions.map(() => ' --- |').join('')}`,
    ...summarizeRows(results).map(
      ({ row, retrieval }) =>
        `| ${row.name} | ${questions.map((question) => percent(retrieval[question])).join(' | ')} |`,
    ),
  ];
}

function spreadOf({ spread }: Pick<Estimate, 'spread'>, digits: number): string {
  return spread === undefined ? '' : ` ± ${spread.toFixed(digits)}`;
}

function ratesSection({ name, scale, title, criterion, variants }: FindLrResults): string[] {
  return [
    '',
    `### ${title}`,
    '',
    `\`sluice find-lr\` of \`${name}.yaml\`, scale ${scale}; ${criterion}.`,
    '',
    '| Variant | Seed | Largest stable | Smallest unstable | Tried | Weights of the largest stable |',
    '| --- | --- | --- | --- | --- | --- |',
    ...variants.flatMap((variant) =>
      variant.seeds.map(
        ({ seed, largestStable, smallestUnstable, probes }) =>
          `| ${variant.method} | ${seed} | ${largestStable ?? ''} | ${smallestUnstable ?? ''} | ${probes
            .map(({ learningRate, outcome }) => `${learningRate} ${outcome}`)
            .join(', ')} | ${short(weightsAt(probes, largestStable))} |`,
      ),
    ),
  ];
}

function weightsAt(
  probes: readonly { readonly learningRate: number; readonly weightsHash: string | null }[],
  rate: number | null,
): string | null {
  return probes.find(({ learningRate }) => learningRate === rate)?.weightsHash ?? null;
}

function short(hash: string | null): string {
  return hash === null ? '' : `\`${hash.slice(0, 16)}\``;
}
