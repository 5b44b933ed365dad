/** A run's configuration in the page: in a line, whole, and against another's. */

import { escapeHtml, panel, table } from './elements.ts';
import type { ConfigDifferences, ReportFacts } from './facts.ts';

/** The architecture and recipe in a line, from those of the usual keys that are there. */
export function configSummary(config: ReportFacts['config']): string {
  const at = (path: string): unknown =>
    path
      .split('.')
      .reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined | null)?.[key], config);
  const part = (path: string, text: (value: string) => string): string[] => {
    const value = at(path);
    return typeof value === 'number' || typeof value === 'string' ? [text(String(value))] : [];
  };
  return [
    ...part('model.numLayers', (n) => `${n} layers`),
    ...part('model.hiddenSize', (n) => `hidden ${n}`),
    ...part(
      'model.numAttentionHeads',
      (n) => `${n} heads${part('model.numKeyValueHeads', (m) => `, ${m} key-value`).join('')}`,
    ),
    ...gatesText(at('model.gates')),
    ...part(
      'model.experts.count',
      (n) => `${n} experts${part('model.experts.topK', (k) => `, top ${k}`).join('')}`,
    ),
    ...part('data.sequenceLength', (n) => `sequences of ${n}`),
    ...part('batch.sequences', (n) => `batch of ${part('batch.ramp.from', (m) => `${m} to `).join('')}${n}`),
    ...part('parallel.workers', (n) => (n === '1' ? '1 worker' : `${n} workers`)),
  ].join(' · ');
}

/** One part for each gate: `elementwise gate`, `headwise value gate`. */
function gatesText(gates: unknown): string[] {
  if (!Array.isArray(gates)) return [];
  if (gates.length === 0) return ['no gate'];
  return gates.map(({ granularity, position }: Record<string, unknown>) =>
    position === 'sdpa' ? `${granularity} gate` : `${granularity} ${position} gate`,
  );
}

/** Each section of the configuration, flattened; what stands outside any comes first. */
export function configPanel(config: ReportFacts['config']): string {
  if (config === undefined) return '';
  const loose: [string, string][] = [];
  const sections: [string, [string, string][]][] = [];
  for (const [key, value] of Object.entries(config)) {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      sections.push([key, flatten(value as Record<string, unknown>)]);
    } else if (value !== undefined) loose.push([key, scalar(value)]);
  }
  if (loose.length > 0) sections.unshift(['run', loose]);
  const content = sections
    .map(([name, entries]) => {
      const list = entries
        .map(([key, value]) => `<dt>${escapeHtml(key)}</dt><dd>${escapeHtml(value)}</dd>`)
        .join('');
      return `<section><h3>${escapeHtml(name)}</h3><dl>${list}</dl></section>`;
    })
    .join('\n');
  return panel('Configuration', 'resolved', `<div class="config">${content}</div>`, 'panel wide');
}

function flatten(object: Record<string, unknown>, prefix = ''): [string, string][] {
  return Object.entries(object).flatMap(([key, value]): [string, string][] => {
    if (value === undefined) return [];
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      return flatten(value as Record<string, unknown>, `${prefix}${key}.`);
    }
    return [[`${prefix}${key}`, scalar(value)]];
  });
}

function scalar(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** What another run was told otherwise. */
export function differencesPanel(differences: ConfigDifferences | undefined): string {
  if (differences === undefined) return '';
  const { other, rows } = differences;
  const content =
    rows.length === 0
      ? '<p class="hint">No key differs.</p>'
      : table(
          [
            ['Key', ''],
            ['This run', 'free'],
            [other, 'free'],
          ],
          rows.map(({ key, own, others }) => [key, shown(own), shown(others)]),
        );
  return panel('Differences of the configurations', `from ${other}`, content, 'panel wide');
}

function shown(value: unknown): string {
  return value === undefined ? 'not set' : scalar(value);
}
