/** How scores between 0 and 1 are spread. */

import { LEFT, percent, RIGHT, round, svg, TOP, WIDTH } from './svg.ts';

/** Room above rows for what they are. */
const ROWS_TOP = 18;

/** Shares of scores in bins over [0, 1] as bars. */
export function histogramPlot(shares: readonly number[], color: number): string {
  const height = 150;
  const highest = Math.max(...shares.filter(Number.isFinite), Number.MIN_VALUE);
  const width = (WIDTH - LEFT - RIGHT) / shares.length;
  const room = height - TOP - 22;
  const bars = shares.map((share, bin) => {
    const tall = round((share / highest) * room);
    return `<rect x="${round(LEFT + bin * width)}" y="${round(TOP + room - tall)}" width="${round(width - 1)}" height="${tall}"><title>${binText(bin, shares.length)}: ${percent(share)}</title></rect>`;
  });
  return svg(
    height,
    `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${TOP}" y2="${TOP}"/><text x="${LEFT - 8}" y="${TOP + 8}" text-anchor="end">${percent(highest)}</text>
<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${TOP + room}" y2="${TOP + room}"/>${scoreLabels(height - 4)}<g class="series-${color}">${bars.join('')}</g>`,
  );
}

/** The scores of a bin; the first and the last have what lies outside as well. */
function binText(bin: number, bins: number): string {
  const [from, to] = [(bin / bins).toFixed(2), ((bin + 1) / bins).toFixed(2)];
  return bin === 0 ? `below ${to}` : bin === bins - 1 ? `from ${from}` : `${from} to ${to}`;
}

/**
 * The same for each of several rows, as shades of each row's largest.
 * @param rows shares, row by row from the top
 * @param label of the rows, which are numbered from 0
 */
export function shadedHistograms(rows: readonly (readonly number[])[], color: number, label: string): string {
  const rowHeight = Math.max(5, Math.min(16, 220 / rows.length));
  const height = ROWS_TOP + rows.length * rowHeight + 26;
  const every = Math.ceil(12 / rowHeight);
  const drawn = rows.map((shares, row) => {
    const y = ROWS_TOP + row * rowHeight;
    const highest = Math.max(...shares.filter(Number.isFinite), Number.MIN_VALUE);
    const width = (WIDTH - LEFT - RIGHT) / shares.length;
    const cells = shares.map(
      (share, bin) =>
        `<rect x="${round(LEFT + bin * width)}" y="${round(y)}" width="${round(width + 0.3)}" height="${round(rowHeight - 1)}" fill-opacity="${round(Math.sqrt(share / highest) || 0)}"><title>${label} ${row}, ${binText(bin, shares.length)}: ${percent(share)}</title></rect>`,
    );
    const text = `<text x="${LEFT - 8}" y="${round(y + rowHeight / 2 + 4)}" text-anchor="end">${row}</text>`;
    return `${row % every === 0 ? text : ''}${cells.join('')}`;
  });
  const above = `<text x="${LEFT - 8}" y="${ROWS_TOP - 5}" text-anchor="end">${label}</text>`;
  return svg(height, `${above}<g class="series-${color}">${drawn.join('')}</g>${scoreLabels(height - 6)}`);
}

function scoreLabels(y: number): string {
  const place = (score: number) => LEFT + score * (WIDTH - LEFT - RIGHT);
  return [0, 0.1, 0.5, 0.9, 1]
    .map((score) => `<text x="${round(place(score))}" y="${y}" text-anchor="middle">${score}</text>`)
    .join('');
}
