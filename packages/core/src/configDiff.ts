/** Comparing configurations key by key, and naming one by its content. */

import { sha256 } from './hash.ts';

/** One leaf key whose value differs; undefined where it is absent. */
export interface ConfigDifference {
  readonly key: string;
  readonly before: unknown;
  readonly after: unknown;
}

/** The leaf keys, sorted, in which two configurations differ. Lists, and sections without keys, are leaves. */
export function diffConfigs(before: unknown, after: unknown): ConfigDifference[] {
  const a = leaves(before);
  const b = leaves(after);
  return [...new Set([...a.keys(), ...b.keys()])]
    .sort()
    .filter((key) => canonicalJson(a.get(key)) !== canonicalJson(b.get(key)))
    .map((key) => ({ key, before: a.get(key), after: b.get(key) }));
}

function leaves(value: unknown, prefix = '', found = new Map<string, unknown>()): Map<string, unknown> {
  const isLeaf = typeof value !== 'object' || value === null || Array.isArray(value);
  if (isLeaf || (Object.keys(value).length === 0 && prefix !== '')) {
    if (value !== undefined) found.set(prefix, value);
    return found;
  }
  for (const [key, item] of Object.entries(value))
    leaves(item, prefix === '' ? key : `${prefix}.${key}`, found);
  return found;
}

/** JSON with the keys of every object sorted, so that equal values give equal text. */
export function canonicalJson(value: unknown): string {
  return (
    JSON.stringify(value, (_, item) =>
      typeof item === 'object' && item !== null && !Array.isArray(item)
        ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
        : item,
    ) ?? 'undefined'
  );
}

/** Hexadecimal SHA-256 of a configuration's content; the order of its keys does not matter. */
export function hashConfig(config: unknown): string {
  return sha256(canonicalJson(config));
}
