/** Panels of what is told in tables and text. */

import { formatBytes, formatSeconds, groupDigits } from '../format.ts';
import { escapeHtml, panel, table } from './elements.ts';
import type { ReportCheckpoint, ReportSpike, ReportWorker, StoryLine } from './facts.ts';

/** Rows of the table of spikes; the newest are told where there are more. */
const SPIKE_ROWS = 200;

export function spikesPanel(spikes: readonly ReportSpike[]): string {
  if (spikes.length === 0) return '';
  const rows = spikes
    .slice(-SPIKE_ROWS)
    .map(({ start, end, peak, height, first, decision, leftOut, rate }) => [
      end === start ? groupDigits(start) : `${groupDigits(start)}–${groupDigits(end)}`,
      groupDigits(peak),
      ...[height, first, decision, leftOut, rate],
    ]);
  const headings = [
    ['Steps', 'number'],
    ['Peak at step', 'number'],
    ['Height', ''],
    ['Moved first', ''],
    ['Decision', 'free'],
    ['Samples left out', ''],
    ['Learning rate', ''],
  ] as const;
  const marked = 'marked in the plots of loss and gradient norm';
  return panel(
    'Spikes and decisions',
    rows.length < spikes.length ? `${marked}; the last ${SPIKE_ROWS} of ${spikes.length}` : marked,
    filledTable(headings, rows).content,
    'panel wide spikes',
  );
}

/** Of a content hash: enough to tell any two apart. */
const HASH_DIGITS = 12;

/** In half the width, beside the last plot, when `beside` and narrow enough. */
export function checkpointsPanel(
  checkpoints: readonly ReportCheckpoint[] | undefined,
  beside: boolean,
): string {
  if (checkpoints === undefined || checkpoints.length === 0) return '';
  const rows = checkpoints.map(({ step, directory, weights, bytes, time, note }) => [
    groupDigits(step),
    directory,
    weights?.slice(0, HASH_DIGITS) ?? '',
    bytes === undefined ? '' : formatBytes(bytes),
    time ?? '',
    note ?? '',
  ]);
  const headings = [
    ['Step', 'number'],
    ['Directory', 'free'],
    ['Weights', ''],
    ['Size', 'number'],
    ['Saved', ''],
    ['Note', 'free'],
  ] as const;
  const { content, columns } = filledTable(headings, rows);
  return panel('Checkpoints', '', content, beside && columns < 5 ? 'panel' : 'panel wide');
}

/** A table of the columns in which some row has something, and how many these are. */
function filledTable(
  headings: readonly (readonly [text: string, className: string])[],
  rows: readonly (readonly string[])[],
): { content: string; columns: number } {
  const filled = headings.flatMap((_, i) => (rows.some((row) => row[i] !== '') ? [i] : []));
  const content = table(
    filled.map((column) => headings[column]!),
    rows.map((row) => filled.map((column) => row[column]!)),
  );
  return { content, columns: filled.length };
}

/** Lines of the story that are told; the newest where there are more. */
const STORY_LINES = 300;

/** What happened, newest first. */
export function storyPanel(story: readonly StoryLine[] = []): string {
  if (story.length === 0) return '';
  const shown = story.slice(-STORY_LINES).reverse();
  const lines = shown.map(({ time, step, tone, text }) => {
    const at = `<time datetime="${escapeHtml(time)}">${escapeHtml(clock(time))}</time>`;
    return `<li class="${tone}">${at}<span class="at-step">step ${groupDigits(step)}</span><span>${escapeHtml(text)}</span></li>`;
  });
  const cut = shown.length < story.length ? `; the last ${STORY_LINES} of ${groupDigits(story.length)}` : '';
  return panel(
    'What happened',
    `the journal, newest first, UTC${cut}`,
    `<ol class="story">${lines.join('\n')}</ol>`,
    'panel wide',
  );
}

/** `11-29 14:23:15` of ISO 8601. */
function clock(time: string): string {
  return time.slice(5, 19).replace('T', ' ');
}

/** What each worker is doing, and how long the parts of its last step took. */
export function workersPanel(workers: readonly ReportWorker[] = []): string {
  if (workers.length === 0) return '';
  const time = (seconds: number | undefined) => (seconds === undefined ? '' : formatSeconds(seconds));
  const rows = workers.map(({ rank, host, pid, doing, own, waiting, heardAgo }) => [
    String(rank),
    host,
    pid === undefined ? '' : String(pid),
    time(own),
    time(waiting),
    heardAgo === undefined ? '' : formatSeconds(heardAgo),
    doing,
  ]);
  const headings = [
    ['Rank', 'number'],
    ['Host', ''],
    ['Process', 'number'],
    ['Own work in a step', 'number'],
    ['Waiting', 'number'],
    ['Last heartbeat before', 'number'],
    ['Doing', 'free'],
  ] as const;
  return panel('Hosts and workers', '', filledTable(headings, rows).content, 'panel wide');
}
