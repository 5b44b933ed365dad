/** The layers of a `config.json`, which names something for each, as a compact description. */

import { isDeepStrictEqual } from 'node:util';
import type { LayerKindConfig, LayersConfig } from '../../layersConfig.ts';

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

/** The pattern and the exceptions before and behind it that are the fewest names together. */
export function patternOf(names: readonly string[]): Pick<LayersConfig, 'pattern' | 'first' | 'last'> {
  let best: Pick<LayersConfig, 'pattern' | 'first' | 'last'> = { pattern: [...names] };
  const lengthOf = ({ pattern, first = [], last = [] }: typeof best) =>
    pattern.length + first.length + last.length;
  for (let end = names.length; end > 0 && names.length - end < lengthOf(best); end--) {
    for (let period = 1; period < end; period++) {
      const found = patternWithin(names.slice(0, end), period);
      const one = found && { ...found, ...(end < names.length && { last: names.slice(end) }) };
      if (one && lengthOf(one) < lengthOf(best)) best = one;
    }
  }
  return best;
}

/** The pattern of this many names that goes to the end, and what comes before it. */
function patternWithin(
  names: readonly string[],
  period: number,
): { pattern: string[]; first?: string[] } | undefined {
  let begin = names.length;
  while (begin > 0 && (begin + period > names.length || names[begin - 1] === names[begin - 1 + period]))
    begin--;
  if (begin + period > names.length) return undefined;
  const pattern = Array.from({ length: period }, (_, i) => {
    const turns = Math.ceil(Math.max(0, begin - i) / period);
    return names[i + turns * period]!;
  });
  return { pattern, ...(begin > 0 && { first: names.slice(0, begin) }) };
}
