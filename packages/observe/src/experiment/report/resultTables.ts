/** What the rows came to, beside the paper's numbers. */

import { formatCount, formatLoss, formatNumber, formatRate } from '../../format.ts';
import { formatShort } from '../../report/diagnostics.ts';
import { details, escapeHtml, panel, rowSample, type TableCell, table } from '../../report/elements.ts';
import { differInArithmetic, questionsOf, type RowSummary } from '../compare.ts';
import { formatPlain, meanText, paperText } from './numbers.ts';

/** The row with a piece of its line, and its name. */
export function rowCell({ row, label }: RowSummary, index: number): TableCell {
  const name = row.name === label ? '' : `<small>${escapeHtml(row.name)}</small>`;
  return {
    html: `<span class="row-name">${rowSample(index)}<span>${escapeHtml(label)}${name}</span></span>`,
  };
}

/** How many seeds finished, and what became of the others. */
export function outcomeText({ outcomes, runs, missing }: RowSummary): string {
  const { finished, diverged, failed, pending } = outcomes;
  const others = [
    ...(diverged > 0 ? [`${diverged} diverged`] : []),
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...(pending + missing.length > 0 ? [`${pending + missing.length} not run`] : []),
  ];
  const all = runs.length + missing.length;
  return `${finished} of ${all}${others.length > 0 ? ` (${others.join(', ')})` : ''}`;
}

export function lossPanel(rows: readonly RowSummary[]): string {
  const arithmeticsDiffer = differInArithmetic(rows);
  const cells = rows.map((summary, index) => {
    const { row, learningRates, trainLoss, validationLoss, perplexity } = summary;
    return [
      rowCell(summary, index),
      arithmeticsDiffer ? summary.arithmetic : '',
      formatCount(row.parameters.total),
      row.parameters.active === row.parameters.total ? '' : formatCount(row.parameters.active),
      row.parameters.added === 0 ? '' : addedText(row.parameters.added),
      learningRates.map(formatRate).join(', '),
      outcomeText(summary),
      meanText(trainLoss, formatLoss),
      meanText(validationLoss, formatLoss),
      meanText(perplexity, formatPerplexity),
      paperText(row, 'perplexity'),
    ];
  });
  const headings = [
    ['Row', 'sticky'],
    ['Arithmetic', ''],
    ['Parameters', 'number'],
    ['… for each token', 'number'],
    ['… added', 'number'],
    ['Learning rate', 'number'],
    ['Seeds finished', ''],
    ['Training loss', 'number'],
    ['Validation loss', 'number'],
    ['Validation perplexity', 'number'],
    ['Paper: perplexity', 'number paper'],
  ] as const;
  return panel(
    'Losses',
    'nats a token; mean ± standard deviation of the seeds that finished',
    withoutEmpty(headings, cells),
    'panel wide',
  );
}

function addedText(added: number): string {
  return `${added < 0 ? '−' : '+'}${formatCount(Math.abs(added))}`;
}

export function formatPerplexity(value: number): string {
  return value >= 1000 ? formatNumber(value) : value.toFixed(3);
}

const DIAGNOSED = [
  ['firstTokenAttention', 'Attention to first token', (s: RowSummary) => s.firstTokenAttention],
  ['massiveActivation', 'Massive activation', (s: RowSummary) => s.massiveActivation],
  ['gateScoreMean', 'Gate score', (s: RowSummary) => s.gateScoreMean],
] as const;

/** Measures that the runs have as well. */
const MEASURED = new Set<string>(['perplexity', ...DIAGNOSED.map(([measure]) => measure)]);

/** Sinks, massive activations and gates, each beside the paper's number; empty where nothing was measured. */
export function diagnosisPanel(rows: readonly RowSummary[]): string {
  if (!rows.some((summary) => DIAGNOSED.some(([, , value]) => value(summary)))) return '';
  const headings = [
    ['Row', 'sticky'] as const,
    ...DIAGNOSED.flatMap(([, label]) => [[label, 'number'] as const, ['Paper', 'number paper'] as const]),
  ];
  const cells = rows.map((summary, index) => [
    rowCell(summary, index),
    ...DIAGNOSED.flatMap(([measure, , value]) => {
      const estimate = value(summary);
      return [estimate ? meanText(estimate, formatShort) : '', paperText(summary.row, measure)];
    }),
  ]);
  const unit = 'on held-out text after training, mean of layers; mean ± standard deviation of seeds';
  return panel('Sinks, massive activations, gates', unit, withoutEmpty(headings, cells), 'panel wide');
}

/** What the trained models found in long contexts; empty where they were asked nothing. */
export function retrievalPanel(rows: readonly RowSummary[]): string {
  const questions = questionsOf(rows.flatMap(({ runs }) => runs));
  if (questions.length === 0) return '';
  const headings = [
    ['Row', 'sticky'] as const,
    ...questions.map((question) => [question, 'number'] as const),
  ];
  const cells = rows.map((summary, index) => [
    rowCell(summary, index),
    ...questions.map((question) => meanText(summary.retrieval[question], formatPercent)),
  ]);
  const unit = 'prompts answered exactly, percent; mean ± standard deviation of seeds';
  return panel('Retrieval', unit, withoutEmpty(headings, cells), 'panel wide');
}

function formatPercent(share: number): string {
  return (100 * share).toFixed(0);
}

/** The paper's other measures, which nothing here measures: folded up, and named so. */
export function paperPanel(rows: readonly RowSummary[]): string {
  const measures = [...new Set(rows.flatMap(({ row }) => Object.keys(row.paper)))].filter(
    (measure) => !MEASURED.has(measure),
  );
  if (measures.length === 0) return '';
  const headings = [
    ['Row', 'sticky'] as const,
    ...measures.map((measure) => [measure, 'number paper'] as const),
  ];
  const cells = rows.map((summary, index) => [
    rowCell(summary, index),
    ...measures.map((measure) => paperText(summary.row, measure, formatPlain)),
  ]);
  return panel(
    'The paper’s other numbers',
    'not measured here',
    details('benchmarks of the paper, of its own models', table(headings, cells), false),
    'panel wide',
  );
}

/** The table without columns in which no row has anything. */
function withoutEmpty(
  headings: readonly (readonly [string, string])[],
  rows: readonly (readonly TableCell[])[],
): string {
  const used = headings.flatMap((_, column) =>
    rows.some((row) => row[column] !== '' && row[column] !== '–') ? [column] : [],
  );
  return table(
    used.map((column) => headings[column]!),
    rows.map((row) => used.map((column) => row[column]!)),
  );
}
