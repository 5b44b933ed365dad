/** How the progress of a run looks: as a block of lines on a terminal, and as single lines for a log file. */

import { stripVTControlCharacters, styleText } from 'node:util';
import {
  formatBytes,
  formatCount,
  formatLoss,
  formatNumber,
  formatRate,
  formatSeconds,
  formatWholeSeconds,
} from '../format.ts';
import { maxViolation, relativeExpertLoad, type StepRecord } from '../record.ts';

/** The hosts of a run that has several. */
export interface FleetState {
  /** In the order of their ranks, with the longest own work of their workers in the last step, seconds. */
  readonly hosts: readonly { readonly name: string; readonly seconds: number }[];
  /** Names of those that are waited for. */
  readonly missing: readonly string[];
  /** How often workers were started anew. */
  readonly restarts: number;
  /** What ended them last; undefined while nothing did. */
  readonly lastFault?: string | undefined;
}

/** All that is shown of a run at one moment. */
export interface ProgressState {
  readonly record: StepRecord;
  readonly totalSteps: number;
  readonly validation?: { readonly step: number; readonly loss: number } | undefined;
  readonly secondsLeft?: number | undefined;
  readonly secondsElapsed: number;
  readonly spikes: number;
  /** Steps whose update was kept from the weights. */
  readonly skipped: number;
  /** What the run is busy with between steps. */
  readonly status?: string | undefined;
  readonly fleet?: FleetState | undefined;
}

type Style = Parameters<typeof styleText>[0];
/** Applies a style, or nothing where colours are off. */
export type Paint = (style: Style, text: string) => string;

export function painter(color: boolean): Paint {
  return color ? (style, text) => styleText(style, text, { validateStream: false }) : (_style, text) => text;
}

const LABEL_WIDTH = 9;
const GAP = '   ';
const HEAT_LEVELS = '▁▂▃▄▅▆▇█';
/** Load, as a multiple of the fair share, at which a cell of the heat line is full. */
const HEAT_FULL = 2;

/** The live block, without line breaks at its end; every line fits into `columns`. */
export function renderBlock(state: ProgressState, columns: number, paint: Paint): string {
  const { record } = state;
  const width = Math.max(20, columns - 1);
  const field = (label: string, value: string, style?: Style): Field => ({ label, value, style });
  const lines = [
    progressLine(state, width, paint),
    fieldLine(
      'loss',
      [
        field('', formatLoss(record.loss), 'bold'),
        ...(state.validation
          ? [field('validation', `${formatLoss(state.validation.loss)} at ${state.validation.step}`)]
          : []),
        field('gradient norm', formatNumber(record.gradientNorm)),
        field('rate', formatRate(record.learningRate)),
      ],
      width,
      paint,
    ),
    fieldLine(
      'speed',
      [
        field('', `${formatCount(record.tokensPerSecond)} tokens/s`),
        field('step', `${formatNumber(record.seconds.total)} s`),
        field('memory', formatBytes(record.peakMemoryBytes)),
        ...(state.spikes > 0 ? [field('spikes', String(state.spikes), 'yellow')] : []),
        ...(state.skipped > 0 ? [field('skipped updates', String(state.skipped), 'red')] : []),
      ],
      width,
      paint,
    ),
  ];
  if (record.expertLoad !== undefined && record.expertLoad.length > 0) {
    const violation = maxViolation(record.expertLoad);
    const heat = heatLine(relativeExpertLoad(record.expertLoad), Math.max(8, Math.min(64, width - 40)));
    lines.push(
      fieldLine(
        'experts',
        [field('', heat, 'cyan'), field('max violation', formatNumber(violation))],
        width,
        paint,
      ),
    );
  }
  if (state.fleet !== undefined) lines.push(...fleetLines(state.fleet, width, paint));
  return lines.join('\n');
}

/** Hosts that are shown each; of more, the slowest. */
const MOST_HOSTS = 6;

/** Names of hosts that are shown as missing. */
const MOST_MISSING = 3;

function fleetLines(fleet: FleetState, width: number, paint: Paint): string[] {
  const { hosts, missing, restarts, lastFault } = fleet;
  const few = hosts.length <= MOST_HOSTS;
  const shown = few ? hosts : [...hosts].sort((a, b) => b.seconds - a.seconds).slice(0, 3);
  const more = missing.length > MOST_MISSING ? ` and ${missing.length - MOST_MISSING} more` : '';
  const line = fieldLine(
    'hosts',
    [
      ...(few ? [] : [{ label: '', value: `${hosts.length}, slowest:` }]),
      ...(missing.length === 0
        ? []
        : [
            {
              label: 'missing',
              value: `${missing.slice(0, MOST_MISSING).join(', ')}${more}`,
              style: 'yellow' as const,
            },
          ]),
      ...shown.map(({ name, seconds }) => ({ label: name, value: formatSeconds(seconds) })),
    ],
    width,
    paint,
  );
  if (restarts === 0) return [line];
  const told = ` ${restarts === 1 ? 'restart' : 'restarts'}${lastFault === undefined ? '' : `; the last one: ${lastFault}`}`;
  const text = clip(printable(`${restarts}${told}`).replaceAll('\n', ' '), width - LABEL_WIDTH);
  return [line, `${paint('dim', 'faults'.padEnd(LABEL_WIDTH))}${paint('yellow', text)}`];
}

interface Field {
  readonly label: string;
  readonly value: string;
  readonly style?: Style | undefined;
}

/** A labelled line of fields; those that do not fit any more are left out. */
function fieldLine(label: string, fields: readonly Field[], width: number, paint: Paint): string {
  let line = paint('dim', label.padEnd(LABEL_WIDTH));
  let used = LABEL_WIDTH;
  for (const [index, { label: name, value, style }] of fields.entries()) {
    const prefix = `${index > 0 ? GAP : ''}${name === '' ? '' : `${name} `}`;
    if (used + prefix.length + value.length > width) break;
    used += prefix.length + value.length;
    line += `${paint('dim', prefix)}${style ? paint(style, value) : value}`;
  }
  return line;
}

function progressLine(state: ProgressState, width: number, paint: Paint): string {
  const { record, totalSteps } = state;
  const share = totalSteps > 0 ? Math.min(1, record.step / totalSteps) : 1;
  const count = `${String(record.step).padStart(String(totalSteps).length)}/${totalSteps}`;
  const percent = `${Math.floor(share * 100)} %`.padStart(6);
  const left =
    state.secondsLeft === undefined ? 'estimating' : `${formatWholeSeconds(state.secondsLeft)} left`;
  const time = state.status ?? `${left} · ${formatWholeSeconds(state.secondsElapsed)} so far`;
  const room = width - LABEL_WIDTH - count.length - percent.length - time.length - 2 * GAP.length;
  const barWidth = Math.min(50, room);
  if (barWidth < 6) return clip(`${'step'.padEnd(LABEL_WIDTH)}${count}${percent}${GAP}${time}`, width);
  const filled = Math.round(share * barWidth);
  return [
    paint('dim', 'step'.padEnd(LABEL_WIDTH)),
    paint('bold', count),
    '  ',
    paint('green', '━'.repeat(filled)),
    paint('dim', '─'.repeat(barWidth - filled)),
    percent,
    GAP,
    paint('dim', time),
  ].join('');
}

/**
 * Loads of experts as a line of small bars: half a cell is the fair share, a full one twice that or more.
 * More experts than `cells` are shown by the mean of neighbours.
 */
function heatLine(relativeLoad: readonly number[], cells: number): string {
  const count = Math.min(cells, relativeLoad.length);
  return Array.from({ length: count }, (_, cell) => {
    const start = Math.floor((cell * relativeLoad.length) / count);
    const end = Math.floor(((cell + 1) * relativeLoad.length) / count);
    const part = relativeLoad.slice(start, end);
    const mean = part.reduce((a, b) => a + b, 0) / part.length;
    const level = Math.round((mean / HEAT_FULL) * HEAT_LEVELS.length) - 1;
    return HEAT_LEVELS[Math.max(0, Math.min(HEAT_LEVELS.length - 1, level))] ?? ' ';
  }).join('');
}

/** One line for a log file: the state at one step. */
export function renderPlainLine(state: ProgressState): string {
  const { record, totalSteps } = state;
  const parts = [
    `step ${String(record.step).padStart(String(totalSteps).length)}/${totalSteps}`,
    `loss ${formatLoss(record.loss)}`,
    ...(record.validationLoss === undefined ? [] : [`validation ${formatLoss(record.validationLoss)}`]),
    ...Object.entries(record.validationLosses ?? {}).map(([name, loss]) => `${name} ${formatLoss(loss)}`),
    `norm ${formatNumber(record.gradientNorm)}`,
    `rate ${formatRate(record.learningRate)}`,
    `${formatCount(record.tokensPerSecond)} tokens/s`,
    ...(record.expertLoad === undefined
      ? []
      : [`max violation ${formatNumber(maxViolation(record.expertLoad))}`]),
    ...(record.applied ? [] : ['update skipped']),
    ...(record.spike ? ['spike'] : []),
    ...(state.secondsLeft === undefined ? [] : [`${formatWholeSeconds(state.secondsLeft)} left`]),
  ];
  return parts.join('  ');
}

/** One line for a log file: a validation after a step. */
export function renderValidationLine(step: number, totalSteps: number, loss: number): string {
  return `step ${String(step).padStart(String(totalSteps).length)}/${totalSteps}  validation ${formatLoss(loss)}`;
}

/** Text of a worker or a file name, made harmless for the terminal: no control sequences, single lines kept apart. */
export function printable(text: string): string {
  return (
    stripVTControlCharacters(text)
      .replaceAll('\t', '  ')
      .split(/\r\n|\r|\n/)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must go
      .map((line) => line.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, ''))
      .join('\n')
      .trimEnd()
  );
}

function clip(line: string, width: number): string {
  return line.length > width ? `${line.slice(0, width - 1)}…` : line;
}
