/** A run in characters: how far it is, its curves, the last decisions, its workers. Readable at 80 columns, with and without colours. */

import { styleText } from 'node:util';
import {
  formatCount,
  formatLoss,
  formatRate,
  formatSeconds,
  formatWholeSeconds,
  groupDigits,
} from './format.ts';
import type { MetricColumns } from './report/columns.ts';
import { movingAverage } from './report/downsample.ts';
import type { ReportFacts, StoryLine } from './report/facts.ts';
import type { SampleRecord } from './samplesLog.ts';
import { renderLossCurve, terminalTable } from './terminal.ts';

export interface RunFrame {
  readonly name: string;
  readonly facts: ReportFacts;
  readonly columns: MetricColumns;
  /** The newest texts of the model. */
  readonly samples: readonly SampleRecord[];
  /** That the run is to take. */
  readonly steps: number | undefined;
  readonly secondsLeft: number | undefined;
  /** Of the terminal. */
  readonly width: number;
  readonly height: number;
  readonly color: boolean;
}

type Style = Parameters<typeof styleText>[0];

/** Rows of everything but the loss, about: what is left is its. */
const OTHER_ROWS = 22;
const DECISIONS = 5;
const WORKERS = 8;
const SAMPLE_LINES = 4;

/** Lines, none longer than the terminal is wide. */
export function runFrame(frame: RunFrame): string[] {
  const { name, facts, columns, samples, width, color } = frame;
  const paint = (style: Style, text: string) =>
    color ? styleText(style, text, { validateStream: false }) : text;
  const cut = (text: string) => (text.length > width ? `${text.slice(0, width - 1)}…` : text);
  const state = facts.status?.state ?? 'unknown';
  const heading = (text: string) => ['', paint('bold', text)];
  const lossRows = Math.max(6, Math.min(16, frame.height - OTHER_ROWS));
  return [
    `${paint('bold', cut(name))}  ${paint(STATE_STYLES[state] ?? 'dim', state)}`,
    cut(progressText(frame)),
    ...columnsLines(columns).map(cut),
    ...heading('loss, smoothed'),
    ...curve(columns, columns.loss.values(), { width, height: lossRows, color }),
    ...heading('gradient norm, smoothed'),
    ...curve(columns, columns.norm.values(), { width, height: 5, color }),
    ...heading('last decisions'),
    ...decisionLines(facts.story ?? [], { width, paint }),
    ...workerLines(facts, width, heading),
    ...sampleLines(samples, width, heading),
  ];
}

const STATE_STYLES: Readonly<Record<string, Style>> = {
  running: 'cyan',
  finished: 'green',
  stopped: 'yellow',
  failed: 'red',
  killed: 'red',
};

function progressText({ columns, steps, secondsLeft }: RunFrame): string {
  const step = columns.length > 0 ? columns.steps.at(columns.length - 1) : 0;
  if (steps === undefined) return `step ${groupDigits(step)}`;
  const share = Math.min(1, step / steps);
  const bar = `${'#'.repeat(Math.round(24 * share))}${'.'.repeat(24 - Math.round(24 * share))}`;
  const left = secondsLeft === undefined ? '' : `, ${formatWholeSeconds(secondsLeft)} left`;
  return `[${bar}] step ${groupDigits(step)} of ${groupDigits(steps)}, ${Math.floor(100 * share)} %${left}`;
}

function columnsLines(columns: MetricColumns): string[] {
  const last = columns.length - 1;
  if (last < 0) return ['no step has been recorded yet'];
  const validation = columns.validation.values();
  const at = validation.findLastIndex(Number.isFinite);
  return [
    [
      `loss ${formatLoss(columns.loss.at(last))}`,
      ...(at < 0 ? [] : [`validation ${formatLoss(validation[at]!)}`]),
      `norm ${columns.norm.at(last).toPrecision(3)}`,
      `rate ${formatRate(columns.rate.at(last))}`,
      `${formatCount(columns.throughput.at(last))} tokens/s`,
    ].join('  '),
  ];
}

/** Without the few values that would flatten the rest. */
function curve(
  columns: MetricColumns,
  values: ArrayLike<number>,
  options: { readonly width: number; readonly height: number; readonly color: boolean },
): string[] {
  const smoothed = movingAverage(values, Math.max(2, values.length / 200));
  const sorted = smoothed.filter(Number.isFinite).sort();
  const usual = sorted[Math.floor(0.98 * (sorted.length - 1))];
  if (usual === undefined) return ['  none yet'];
  const top = (sorted.at(-1) ?? usual) > 1.6 * usual && usual > 0 ? 1.2 * usual : Number.POSITIVE_INFINITY;
  // Without the last digits, by which averages of equal numbers differ: the plot would have no end of rows.
  const shown = Array.from(smoothed, (value) => Number(Math.min(value, top).toPrecision(6)));
  const ends = [columns.steps.at(0), columns.steps.at(columns.length - 1)] as const;
  return renderLossCurve(shown, { ...options, ends }).split('\n');
}

const TONE_STYLES: Readonly<Record<StoryLine['tone'], Style>> = {
  plain: 'reset',
  good: 'green',
  warning: 'yellow',
  error: 'red',
};

/** What was decided, without the checkpoints and validations in between; newest first. */
function decisionLines(
  story: readonly StoryLine[],
  { width, paint }: { readonly width: number; readonly paint: (style: Style, text: string) => string },
): string[] {
  const decisions = story.filter(({ tone }) => tone === 'warning' || tone === 'error');
  const shown = [
    ...decisions.slice(-DECISIONS),
    ...story.slice(-1).filter((line) => !decisions.includes(line)),
  ];
  if (shown.length === 0) return ['  none'];
  return shown.reverse().map(({ time, text, tone }) => {
    const line = `${time.slice(11, 19)}  ${inOneLine(text)}`;
    return paint(TONE_STYLES[tone], line.length > width ? `${line.slice(0, width - 1)}…` : line);
  });
}

function workerLines(
  { workers = [] }: ReportFacts,
  width: number,
  heading: (text: string) => string[],
): string[] {
  if (workers.length === 0) return [];
  const seconds = (value: number | undefined) => (value === undefined ? '' : formatSeconds(value));
  const rows = workers
    .slice(0, WORKERS)
    .map(({ rank, host, own, waiting, heardAgo, doing }) => [
      ...[String(rank), host, seconds(own), seconds(waiting), seconds(heardAgo), doing],
    ]);
  const header = ['rank', 'host', 'own work', 'waiting', 'heard ago', 'doing'];
  const right = 'right' as const;
  const table = terminalTable(rows, { header, align: [right, 'left', right, right, right, 'left'] });
  const more = workers.length - rows.length;
  return [
    ...heading('workers'),
    ...table.split('\n').map((line) => line.slice(0, width)),
    ...(more > 0 ? [`and ${more} more`] : []),
  ];
}

/** The beginnings of the newest texts. */
function sampleLines(
  samples: readonly SampleRecord[],
  width: number,
  heading: (text: string) => string[],
): string[] {
  const [first] = samples;
  if (first === undefined) return [];
  const each = Math.max(1, Math.floor(SAMPLE_LINES / samples.length));
  const texts = samples.slice(0, SAMPLE_LINES).flatMap(({ prompt, text }) => {
    const shown = [...inOneLine(`${prompt}${text}`)];
    const lines = Array.from({ length: Math.ceil(shown.length / width) }, (_, i) =>
      shown.slice(i * width, (i + 1) * width).join(''),
    );
    return lines.length <= each ? lines : [...lines.slice(0, each - 1), `${lines[each - 1]!.slice(0, -1)}…`];
  });
  return [...heading(`written after step ${groupDigits(first.step)}`), ...texts];
}

/** Control characters of a message mean nothing here. */
function inOneLine(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ');
}
