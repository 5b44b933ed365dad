/**
 * Rows with a name, a picture and a number each, the pictures on one horizontal axis: intervals around zero, rates, cells of a heat
 * map. Places are shares of the width, so that a row is as wide as the page and its text stays as large as the page's.
 */

import { escapeHtml } from '../report/elements.ts';
import { formatTick, type Scale, type SeriesColor } from './svg.ts';

/** What stands on a row's track; `title` is shown where one points at it. */
export type TrackMark =
  | {
      readonly kind: 'whisker';
      readonly from: number;
      readonly to: number;
      readonly title: string;
      /** How far above the middle of the track, from −1 to 1: so that marks at one place are told apart. */
      readonly lift?: number;
    }
  | {
      readonly kind: 'dot' | 'ring' | 'diamond' | 'cross';
      readonly at: number;
      readonly title: string;
      readonly lift?: number;
    }
  | {
      readonly kind: 'cell';
      readonly from: number;
      readonly to: number;
      /** From 0 to 1. */
      readonly shade: number;
      /** Written into the cell, where it has room. */
      readonly text: string;
      readonly title: string;
    };

export interface TrackRow {
  readonly name: string;
  /** Below the name. */
  readonly note?: string;
  readonly color: SeriesColor;
  readonly marks: readonly TrackMark[];
  /** The numbers of the picture. */
  readonly value: string;
  /** What else is to be known of them. */
  readonly remark?: string;
}

export interface TrackAxis {
  readonly scale: Scale;
  /** What the axis is. */
  readonly label: string;
  /** Where a vertical line stands through all rows. */
  readonly reference?: number | undefined;
  /** How ticks are written. */
  readonly format?: (tick: number) => string;
}

/** Height of a track in pixels, and of the axis below the tracks. */
const HEIGHT = 26;
const AXIS_HEIGHT = 20;

/** HTML of the rows with their axis. Marks beyond its ends are cut off there; a whisker that goes on ends in an arrow. */
export function tracks(rows: readonly TrackRow[], axis: TrackAxis): string {
  const drawn = rows.map(({ name, note = '', color, marks, value, remark = '' }) => {
    const below = note === '' ? '' : `<small>${escapeHtml(note)}</small>`;
    const beside = remark === '' ? '' : `<small>${escapeHtml(remark)}</small>`;
    const picture = `${lines(axis)}<g class="series-${color}">${marks.map((mark) => drawMark(mark, axis.scale)).join('')}</g>`;
    return `<div class="track-row"><div class="track-name">${escapeHtml(name)}${below}</div>${track(HEIGHT, picture)}<div class="track-value">${escapeHtml(value)}${beside}</div></div>`;
  });
  return `<div class="tracks">${drawn.join('\n')}
<div class="track-row track-axis"><div class="track-name"></div>${track(AXIS_HEIGHT, labels(axis))}<div class="track-value">${escapeHtml(axis.label)}</div></div></div>`;
}

function track(height: number, content: string): string {
  return `<svg class="figure track" width="100%" height="${height}" role="img">${content}</svg>`;
}

/** Of the width, in percent; a little is left free at both ends for marks and labels. */
function place(value: number, { share }: Scale): number {
  const inside = Math.min(1.02, Math.max(-0.02, share(value) || 0));
  return Math.round(100 * (4 + 92 * inside)) / 100;
}

function lines({ scale, reference }: TrackAxis): string {
  const grid = scale.ticks.map((tick) => {
    const x = place(tick, scale);
    return `<line class="grid" x1="${x}%" x2="${x}%" y1="0" y2="${HEIGHT}"/>`;
  });
  if (reference === undefined) return grid.join('');
  const x = place(reference, scale);
  return `${grid.join('')}<line class="reference" x1="${x}%" x2="${x}%" y1="0" y2="${HEIGHT}"/>`;
}

function labels({ scale, format = formatTick }: TrackAxis): string {
  return scale.ticks
    .map(
      (tick) =>
        `<text x="${place(tick, scale)}%" y="14" text-anchor="middle">${escapeHtml(format(tick))}</text>`,
    )
    .join('');
}

/** Paths around a point at half the height of a track. */
const SHAPES = {
  diamond: '<path class="hollow" d="M0,-6 L6,0 L0,6 L-6,0 Z"/>',
  cross: '<path class="hollow" d="M-4.5,-4.5 L4.5,4.5 M-4.5,4.5 L4.5,-4.5"/>',
  dot: '<circle r="4.5"/>',
  ring: '<circle class="hollow" r="3"/>',
  left: '<path class="hollow" d="M4,-4 L0,0 L4,4"/>',
  right: '<path class="hollow" d="M-4,-4 L0,0 L-4,4"/>',
} as const;

function drawMark(mark: TrackMark, scale: Scale): string {
  const title = `<title>${escapeHtml(mark.title)}</title>`;
  const lift = mark.kind === 'cell' ? 0 : (mark.lift ?? 0);
  const middle = HEIGHT / 2 - Math.round((lift * HEIGHT) / 2.6);
  const shape = (kind: keyof typeof SHAPES, x: number) =>
    `<svg class="mark-at" x="${x}%" y="${middle}">${SHAPES[kind]}</svg>`;
  if (mark.kind === 'whisker') {
    const [from, to] = [place(mark.from, scale), place(mark.to, scale)];
    const cap = (value: number, x: number, beyond: 'left' | 'right') => {
      const share = scale.share(value);
      if (share < -0.02 || share > 1.02) return shape(beyond, x);
      return `<line class="whisker" x1="${x}%" x2="${x}%" y1="${middle - 4}" y2="${middle + 4}"/>`;
    };
    return `<g>${title}<line class="whisker" x1="${from}%" x2="${to}%" y1="${middle}" y2="${middle}"/>${cap(mark.from, from, 'left')}${cap(mark.to, to, 'right')}</g>`;
  }
  if (mark.kind === 'cell') {
    const [from, to] = [place(mark.from, scale), place(mark.to, scale)];
    const width = Math.round(100 * (to - from)) / 100;
    // Two thirds of the shade are dark enough for light text.
    const text =
      mark.text === ''
        ? ''
        : `<text class="${mark.shade > 0.6 ? 'on-dark' : 'on-light'}" x="${from + width / 2}%" y="${middle + 4}" text-anchor="middle">${escapeHtml(mark.text)}</text>`;
    return `<g>${title}<rect x="${from}%" y="1" width="${width}%" height="${HEIGHT - 2}" fill-opacity="${mark.shade.toFixed(3)}"/>${text}</g>`;
  }
  return `<g>${title}${shape(mark.kind, place(mark.at, scale))}</g>`;
}
