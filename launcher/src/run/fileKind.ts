/** What a YAML file describes, by the keys at its top, so that one in the place of another is told by what it is. */

import { loadYamlConfig, SluiceError } from '@sluice/core';
import { z } from 'zod';

interface Kind {
  /** Keys at the top that no file of another kind has. */
  readonly marks: readonly string[];
  readonly what: string;
  /** What it is good for. */
  readonly use: string;
}

const KINDS = {
  run: {
    marks: ['model', 'training', 'optimizer'],
    what: 'the configuration of a run',
    use: 'train it by `sluice train`, or name it as the `base` of an experiment',
  },
  model: {
    marks: ['hiddenSize', 'numLayers'],
    what: 'a model alone',
    use: 'a configuration that names it (`model: PATH`) says how it is trained; `sluice count`, `plan` and `simulate` take it as it is',
  },
  recipe: {
    marks: ['sources'],
    what: 'the recipe of a corpus',
    use: 'prepare it by `sluice data prepare`; a configuration that names it (`data.recipe`) trains on it',
  },
  experiment: {
    marks: ['rows'],
    what: 'an experiment',
    use: 'run it by `sluice experiment`',
  },
} as const satisfies Record<string, Kind>;

/** Names of the keys at the top of a file, those that it extends included. */
export function topKeys(path: string): string[] {
  return Object.keys(loadYamlConfig(path, z.record(z.string(), z.unknown())));
}

/**
 * Refuses a file that is clearly of another kind than what is wanted; its keys would all be unknown.
 * @throws SLUICE_E_USAGE, and the coded errors of `loadYamlConfig`
 */
export function refuseOtherKind(path: string, ...wanted: readonly (keyof typeof KINDS)[]): void {
  const keys = topKeys(path);
  const isOfKind = ({ marks }: Kind) => marks.some((mark) => keys.includes(mark));
  if (wanted.some((kind) => isOfKind(KINDS[kind]))) return;
  const other = Object.values(KINDS).find(isOfKind);
  if (other) throw new SluiceError('SLUICE_E_USAGE', `${path} is ${other.what}: ${other.use}.`);
}
