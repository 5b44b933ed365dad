/**
 * A configuration with what it leaves out written down, wherever leaving a key out means the same as a value of it. So two
 * configurations that say the same in different words can be told from two that do not.
 */

import { type ConfigDifference, diffConfigs } from '@sluice/core';
import { BACKENDS, precisionOn } from '@sluice/engine';
import { PARAMETER_GROUPS, yarnAttentionFactor } from '@sluice/model';
import { DEFAULT_SNAPSHOT_INTERVAL, decayStepsOf, type RunConfig, USUAL_MIXING } from '@sluice/train';

type Section = Readonly<Record<string, unknown>>;

/** The value that a key has where its section lacks it; undefined where none means the same. */
type Meaning = (section: Section, config: RunConfig) => unknown;

const rmsNormEps: Meaning = (_, { model }) => model.rmsNormEps;

const MIXER: Readonly<Record<string, Meaning>> = {
  'mixer.allowNegativeEigenvalues': () => false,
  'mixer.normEps': rmsNormEps,
  'mixer.rank': ({ valueDim }) => valueDim,
  'keyValueLatent.normEps': rmsNormEps,
  'ropeScaling.attentionFactor': ({ kind, factor }) =>
    kind === 'yarn' ? yarnAttentionFactor(factor as number) : undefined,
};

/** What a kind of layers takes from the model. */
const OF_KINDS = [
  ...['mixer', 'keyValueLatent', 'window', 'numAttentionHeads', 'ropeTheta', 'positions', 'rotaryDim'],
  ...['ropeScaling', 'swigluLimit', 'sharedSwigluLimit', 'normPlacement'],
] as const;

/**
 * By the path of the key, with * for any key of a section and for the items of a list. Those of sections come before those within
 * them, and what a kind of layers takes from the model after that.
 */
export const MEANINGS: Readonly<Record<string, Meaning>> = {
  precision: (_, { backend }) => precisionOn(BACKENDS[backend], undefined),
  'model.experts.sharedGate': () => false,
  'model.normPlacement': () => 'before',
  'model.rotaryDim': ({ headDim }) => headDim,
  'model.gates.*.initialLogit': ({ input }) => (input === 'input-independent' ? 0 : undefined),
  'model.controls.*.epsilon': rmsNormEps,
  ...within('model', MIXER),
  'model.layers.kinds.*.feedForward': (_, { model }) => (model.experts ? 'experts' : 'dense'),
  ...within(
    'model.layers.kinds.*',
    Object.fromEntries(OF_KINDS.map((key): [string, Meaning] => [key, (_, { model }) => model[key]])),
  ),
  ...within('model.layers.kinds.*', MIXER),
  'parallel.synchronize.mixing': () => USUAL_MIXING,
  'optimizer.groups': () => ({}),
  ...Object.fromEntries(
    PARAMETER_GROUPS.flatMap((group): [string, Meaning][] => [
      [`optimizer.groups.${group}`, () => ({})],
      [
        `optimizer.groups.${group}.learningRateScale`,
        // As the optimizer has it.
        ({ learningRate }, { optimizer }) =>
          learningRate === undefined ? 1 : (learningRate as number) / optimizer.learningRate,
      ],
      [
        `optimizer.groups.${group}.learningRate`,
        ({ learningRateScale }, { optimizer }) => optimizer.learningRate * (learningRateScale as number),
      ],
      [
        `optimizer.groups.${group}.weightDecay`,
        (_, { optimizer }) => (group === 'norms' ? 0 : optimizer.weightDecay),
      ],
    ]),
  ),
  'schedule.decaySteps': ({ kind }, config) => (kind === 'wsd' ? decayStepsOf(config) : undefined),
  'schedule.decayShape': ({ kind }) => (kind === 'wsd' ? 'linear' : undefined),
  'spikes.snapshotEverySteps': () => DEFAULT_SNAPSHOT_INTERVAL,
};

function within(path: string, meanings: Readonly<Record<string, Meaning>>): Record<string, Meaning> {
  return Object.fromEntries(Object.entries(meanings).map(([key, meaning]) => [`${path}.${key}`, meaning]));
}

/** The keys whose change changes what a run does; those that say in other words what was said, or meant, are none. */
export function meantDifferences(before: RunConfig, after: RunConfig): ConfigDifference[] {
  const meant = diffConfigs(spelledOut(before), spelledOut(after)).map(({ key }) => `${key}.`);
  const isMeant = (key: string) =>
    meant.some((one) => one.startsWith(`${key}.`) || `${key}.`.startsWith(one));
  return diffConfigs(before, after).filter(({ key }) => isMeant(key));
}

export function spelledOut(config: RunConfig): unknown {
  // As it will be compared: without keys that are undefined.
  const written = JSON.parse(JSON.stringify(config)) as Record<string, unknown>;
  for (const [path, meaning] of Object.entries(MEANINGS)) {
    const keys = path.split('.');
    const last = keys.pop()!;
    // Of what was filled in before, such as the model's own of a kind of layers.
    const value = (section: Section) => meaning(section, written as RunConfig);
    for (const section of sectionsAt(written, keys))
      if (section[last] === undefined) section[last] = value(section);
  }
  return written;
}

function sectionsAt(root: Record<string, unknown>, keys: readonly string[]): Record<string, unknown>[] {
  const isSection = (value: unknown): value is Record<string, unknown> =>
    typeof value === 'object' && value !== null;
  return keys.reduce(
    (sections, key) =>
      sections.flatMap((one) => (key === '*' ? Object.values(one) : [one[key]])).filter(isSection),
    [root],
  );
}
