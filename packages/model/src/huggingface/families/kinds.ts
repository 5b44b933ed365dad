/** The layers of a `config.json`, which names something for each, as a compact description. */

import { isDeepStrictEqual } from 'node:util';
import type { LayerKindConfig, LayersConfig } from '../../layers.ts';

/** What a layer has otherwise than the model, with a name for its kind. */
export interface NamedKind {
  readonly name: string;
  readonly kind: LayerKindConfig;
}

/** Kinds, and what all of them have alike as keys of the model. Of layers that are all alike, only the latter. */
export function describeLayers(layers: readonly NamedKind[]): object {
  const kinds = new Map<string, LayerKindConfig>();
  const names = layers.map(({ name, kind }) => {
    const written = withoutUndefined(kind);
    let free = name;
    for (let number = 2; kinds.has(free) && !isDeepStrictEqual(kinds.get(free), written); number++)
      free = `${name}-${number}`;
    kinds.set(free, written);
    return free;
  });
  const all = [...kinds.values()];
  const isCommon = ([key, value]: [string, unknown]) =>
    key !== 'feedForward' &&
    all.every((kind) => isDeepStrictEqual(kind[key as keyof LayerKindConfig], value));
  const common = Object.fromEntries(Object.entries(all[0]!).filter(isCommon));
  if (kinds.size === 1) return common;
  const own = [...kinds].map(([name, kind]) => [
    name,
    Object.fromEntries(Object.entries(kind).filter(([key]) => !(key in common))),
  ]);
  return { ...common, layers: { kinds: Object.fromEntries(own), ...patternOf(names) } };
}

function withoutUndefined(kind: LayerKindConfig): LayerKindConfig {
  return Object.fromEntries(Object.entries(kind).filter(([, value]) => value !== undefined));
}

/** The pattern and the exceptions before it that are the fewest names together. */
export function patternOf(names: readonly string[]): Pick<LayersConfig, 'pattern' | 'first'> {
  let best = { pattern: [...names], first: [] as string[] };
  const lengthOf = (one: typeof best) => one.pattern.length + one.first.length;
  for (let period = 1; period < names.length; period++) {
    let begin = names.length;
    while (begin > 0 && (begin + period > names.length || names[begin - 1] === names[begin - 1 + period]))
      begin--;
    if (begin + period > names.length) continue;
    const pattern = Array.from({ length: period }, (_, i) => {
      const turns = Math.ceil(Math.max(0, begin - i) / period);
      return names[i + turns * period]!;
    });
    const first = names.slice(0, begin);
    if (lengthOf({ pattern, first }) < lengthOf(best)) best = { pattern, first };
  }
  return { pattern: best.pattern, ...(best.first.length > 0 && { first: best.first }) };
}
