/** Which of the columns of a table, or of the tags of event files, is the loss, the gradient norm or the step. */

import { SluiceError } from '@sluice/core';

/** Columns or tags that the user has chosen. */
export interface WantedNames {
  readonly loss?: string | undefined;
  readonly norm?: string | undefined;
}

/** Usual names, as `plain` writes them, the likeliest first; of the last of CSV files that TensorBoard writes. */
const USUAL = {
  loss: [
    ...['loss', 'train loss', 'training loss', 'lm loss', 'train lm loss', 'lm loss training lm loss'],
    ...['loss metrics global avg loss', 'reduced train loss', 'train crossentropyloss', 'train ce loss'],
    ...['cross entropy loss', 'loss train total', 'train loss step', 'value'],
  ],
  norm: [
    ...['gradientnorm', 'gradient norm', 'grad norm', 'gradnorm', 'train grad norm', 'train gradient norm'],
    ...['grad norm grad norm', 'optim total grad norm', 'optim grad norm', 'grad norm total'],
    ...['total grad norm', 'global grad norm', 'l2 norm grad global'],
  ],
  step: [
    'step',
    'steps',
    'global step',
    'iteration',
    'iterations',
    'iter',
    'train step',
    'train global step',
  ],
} as const;

const WHAT = { loss: 'the loss', norm: 'the gradient norm', step: 'the step' } as const;
export type SeriesKind = keyof typeof USUAL;

/** Lower case, with a space for what separates words. */
function plain(name: string): string {
  return name
    .toLowerCase()
    .replaceAll(/[\s_/.-]+/g, ' ')
    .trim();
}

/**
 * Finds a column or tag by the name that the user gave, or by its usual names.
 * @param place file or directory, for the message; `file:line` where the names stand on a line
 * @param kindOfName what names are called there
 * @returns undefined for a gradient norm that nobody asked for and that is not there
 * @throws SLUICE_E_CURVE_NAME, with the names that there are
 */
export function chooseName(
  kind: SeriesKind,
  names: readonly string[],
  wanted: string | undefined,
  place: string,
  kindOfName: 'column' | 'tag',
): string | undefined {
  const refuse = (why: string) => {
    const listed = names.length === 0 ? 'none' : names.map((name) => JSON.stringify(name)).join(', ');
    const flag = kind === 'step' ? '' : ` Choose one by --${kind}-tag.`;
    return new SluiceError('SLUICE_E_CURVE_NAME', `${place}: ${why}; there are: ${listed}.${flag}`, {
      details: { place, kind, wanted: wanted ?? null, names },
    });
  };
  const having = (same: (name: string) => boolean) => {
    const found = names.filter(same);
    if (found.length > 1) {
      throw refuse(`${found.length} ${kindOfName}s could be ${WHAT[kind]}`);
    }
    return found[0];
  };
  if (wanted !== undefined) {
    const found = having((name) => name === wanted);
    if (found === undefined) throw refuse(`no ${kindOfName} is called ${JSON.stringify(wanted)}`);
    return found;
  }
  for (const usual of USUAL[kind]) {
    // Weights & Biases puts the name of the run before that of the metric.
    const found =
      having((name) => plain(name) === usual) ?? having((name) => plain(afterRun(name)) === usual);
    if (found !== undefined) return found;
  }
  if (kind === 'norm') return undefined;
  throw refuse(`no ${kindOfName} is known to be ${WHAT[kind]}`);
}

/** Whether `chooseName` may take that name, whatever others there are. */
export function mayBeChosen(kind: SeriesKind, name: string, wanted: string | undefined): boolean {
  if (wanted !== undefined) return name === wanted;
  const names = [plain(name), plain(afterRun(name))];
  return USUAL[kind].some((usual) => names.includes(usual));
}

function afterRun(name: string): string {
  return name.slice(name.lastIndexOf(' - ') + 1);
}
