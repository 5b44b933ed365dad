/** Pieces of the pages: text, panels, tables. */

import { COLORS, dashOf } from '../figures/svg.ts';

/** Text as the content or a quoted attribute of an element. */
export function escapeHtml(text: string): string {
  const entities: Record<string, string> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&#39;',
  };
  return text.replaceAll(/[&<>"']/g, (character) => entities[character]!);
}

/** JSON that can stand in a script element: no text in it can end the element. */
export function escapeJson(value: unknown): string {
  return JSON.stringify(value).replaceAll('<', '\\u003c');
}

/** One HTML document that refers to nothing outside itself. @param body HTML */
export function htmlDocument(title: string, styles: readonly string[], body: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">
<title>${escapeHtml(title)}</title>
${styles.map((css) => `<style>${css}</style>`).join('\n')}
</head>
<body>
${body}
</body>
</html>
`;
}

/** A paragraph, unless there is nothing to say. */
export function paragraph(className: string, text: string): string {
  return text === '' ? '' : `<p class="${className}">${escapeHtml(text)}</p>`;
}

/** The colour of what has that number among what is compared. */
export function swatch(index: number): string {
  return `<span class="swatch series-${index % COLORS}"></span>`;
}

/** The same as a piece of its line. */
export function rowSample(index: number): string {
  const dash = dashOf(index);
  const strokes = dash.length === 0 ? '' : ` stroke-dasharray="${dash.join(' ')}"`;
  return `<svg class="line-sample series-${index % COLORS}" width="30" height="10"><line x1="1" x2="29" y1="5" y2="5"${strokes}/></svg>`;
}

/** Which colour stands for what, or which line. */
export function legend(names: readonly string[], sample: (index: number) => string = swatch): string {
  const items = names.map((name, index) => `<span>${sample(index)}${escapeHtml(name)}</span>`);
  return `<p class="legend">${items.join('')}</p>`;
}

/** A titled box. @param content HTML */
export function panel(heading: string, unit: string, content: string, className = 'panel'): string {
  const detail = unit === '' ? '' : `<span class="unit">${escapeHtml(unit)}</span>`;
  return `<section class="${className}">
<div class="heading"><h2>${escapeHtml(heading)}</h2>${detail}</div>
${content}
</section>`;
}

/** A number at a glance. */
export interface Figure {
  readonly label: string;
  readonly value: string;
  readonly unit?: string;
  /** What is to be known of it, below it. */
  readonly note?: string;
}

/** The numbers that one looks for first. */
export function figureList(figures: readonly Figure[]): string {
  const cells = figures.map(({ label, value, unit = '', note = '' }) => {
    const small = unit === '' ? '' : ` <small>${escapeHtml(unit)}</small>`;
    const below = note === '' ? '' : `<dd class="note">${escapeHtml(note)}</dd>`;
    return `<div><dt>${escapeHtml(label)}</dt><dd class="value">${escapeHtml(value)}${small}</dd>${below}</div>`;
  });
  return `<dl class="figures">${cells.join('')}</dl>`;
}

/** Text, or HTML that was made of escaped text. */
export type TableCell = string | { readonly html: string };

/** @param headings text, and the class of the column: `number`, `free` or none */
export function table(
  headings: readonly (readonly [text: string, className: string])[],
  rows: readonly (readonly TableCell[])[],
): string {
  const attribute = (className: string | undefined) => (className ? ` class="${className}"` : '');
  const head = headings
    .map(([text, className]) => `<th${attribute(className)}>${escapeHtml(text)}</th>`)
    .join('');
  const content = (cell: TableCell) => (typeof cell === 'string' ? escapeHtml(cell) : cell.html);
  const body = rows
    .map(
      (row) =>
        `<tr>${row.map((cell, i) => `<td${attribute(headings[i]?.[1])}>${content(cell)}</td>`).join('')}</tr>`,
    )
    .join('\n');
  return `<div class="scroll"><table><thead><tr>${head}</tr></thead><tbody>
${body}
</tbody></table></div>`;
}

/** What is folded up. @param content HTML */
export function details(summary: string, content: string, isOpen: boolean): string {
  return `<details${isOpen ? ' open' : ''}><summary>${escapeHtml(summary)}</summary>${content}</details>`;
}
