/** Pieces of the pages: text, panels, tables. */

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

/** A titled box. @param content HTML */
export function panel(heading: string, unit: string, content: string, className = 'panel'): string {
  const detail = unit === '' ? '' : `<span class="unit">${escapeHtml(unit)}</span>`;
  return `<section class="${className}">
<div class="heading"><h2>${escapeHtml(heading)}</h2>${detail}</div>
${content}
</section>`;
}

/** @param headings text, and the class of the column: `number`, `free` or none */
export function table(
  headings: readonly (readonly [text: string, className: string])[],
  rows: readonly (readonly string[])[],
): string {
  const attribute = (className: string | undefined) => (className ? ` class="${className}"` : '');
  const head = headings
    .map(([text, className]) => `<th${attribute(className)}>${escapeHtml(text)}</th>`)
    .join('');
  const body = rows
    .map(
      (row) =>
        `<tr>${row.map((cell, i) => `<td${attribute(headings[i]?.[1])}>${escapeHtml(cell)}</td>`).join('')}</tr>`,
    )
    .join('\n');
  return `<div class="scroll"><table><thead><tr>${head}</tr></thead><tbody>
${body}
</tbody></table></div>`;
}
