/** Reads a run's configuration with the command line's changes, and freezes it into the run directory. */

import { dirname, resolve } from 'node:path';
import { loadYamlConfig, SluiceError, writeFileAtomic } from '@sluice/core';
import { InitializeConfig, RunConfig } from '@sluice/train';
import { stringify } from 'yaml';
import { z } from 'zod';
import { refuseOtherKind, topKeys } from './fileKind.ts';
import { modelOfWeights } from './initialWeights.ts';
import { locateModel } from './locateCheckpoint.ts';
import { configFromRun, configInRun, pathFromRun } from './runPaths.ts';
import { fittingExpertParallel } from './validate.ts';

/** Flags of the command line that stand for keys of the configuration. */
export interface ConfigFlags {
  readonly set?: readonly string[] | undefined;
  /** Relative to the working directory, unlike the key. */
  readonly from?: string | undefined;
  readonly fromMissing?: string | undefined;
  readonly workers?: number | undefined;
  readonly expertParallel?: number | undefined;
  readonly threads?: number | undefined;
  readonly backend?: string | undefined;
  readonly precision?: string | undefined;
  readonly metricsPort?: number | undefined;
  readonly metricsHost?: string | undefined;
}

/**
 * The resolved configuration, with absolute paths.
 * @throws the coded errors of `loadYamlConfig`
 */
export function loadRunConfig(path: string, flags: ConfigFlags): RunConfig {
  const config = loadYamlConfig(path, RunConfig, { overrides: overridesOf(flags) });
  const { parallel } = config;
  const expertParallel = onlyWorkersGiven(flags)
    ? fittingExpertParallel(parallel.expertParallel, parallel.workers)
    : parallel.expertParallel;
  return { ...configFromRun(dirname(path), config), parallel: { ...parallel, expertParallel } };
}

/** What must be known of a configuration before the rest of it can be read. */
const Beginning = z.looseObject({ initialize: InitializeConfig.prefault({}) });

/**
 * The configuration of a new run. Where it begins with given weights, a run that they are of becomes the very checkpoint, so
 * that the configuration means the same tomorrow; and where it has no `model`, the model is theirs, with `--set` applied.
 * @throws SLUICE_E_USAGE for a file of another kind, and when only `fromMissing` is given; the coded errors of `loadYamlConfig`, `locateModel` and `openWeights`
 */
export async function loadNewRunConfig(
  path: string,
  flags: ConfigFlags,
  log: (line: string) => void,
): Promise<RunConfig> {
  refuseOtherKind(path, 'run');
  const from = await givenWeights(path, flags, log);
  if (from === undefined) {
    if (flags.fromMissing === undefined) return loadRunConfig(path, flags);
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `--from-missing is ${flags.fromMissing}, but there are no weights to begin with: name them by --from.`,
    );
  }
  if (topKeys(path).includes('model')) return loadRunConfig(path, { ...flags, from });
  return loadRunConfig(path, { ...flags, from, set: [await modelFrom(from), ...(flags.set ?? [])] });
}

/**
 * What `--set` comes to for a file that may have no `model`, since the weights that it begins with have one.
 * @throws the coded errors of `loadYamlConfig`, `locateModel` and `openWeights`
 */
export async function withModelOfWeights(
  path: string,
  set: readonly string[],
  log: (line: string) => void,
): Promise<readonly string[]> {
  const keys = topKeys(path);
  if (keys.includes('model') || !keys.includes('initialize')) return set;
  const from = await givenWeights(path, { set }, log);
  return from === undefined ? set : [await modelFrom(from), ...set];
}

/** The weights that a new run begins with, if it does: those of a run are of its newest checkpoint. */
async function givenWeights(
  path: string,
  flags: ConfigFlags,
  log: (line: string) => void,
): Promise<string | undefined> {
  const overrides = overridesOf(flags).filter((override) => override.startsWith('initialize.'));
  const { from } = loadYamlConfig(path, Beginning, { overrides }).initialize;
  return from === undefined ? undefined : locateModel(pathFromRun(dirname(path), from), log);
}

async function modelFrom(weights: string): Promise<string> {
  return `model=${JSON.stringify(await modelOfWeights(weights))}`;
}

/** Writes a run's configuration whole, or not at all; its paths are from the run's directory. */
export async function freezeRunConfig(path: string, config: RunConfig): Promise<void> {
  const header =
    '# The resolved configuration of this run. `sluice resume` changes it; do not edit it by hand.\n';
  await writeFileAtomic(path, header + stringify(configInRun(dirname(path), config)));
}

function overridesOf(flags: ConfigFlags): string[] {
  const keys: [string, string | number | undefined][] = [
    ['initialize.from', flags.from && JSON.stringify(resolve(flags.from))],
    ['initialize.missing', flags.fromMissing],
    ['parallel.workers', flags.workers],
    ['parallel.expertParallel', flags.expertParallel],
    ['parallel.threads', flags.threads],
    ['backend', flags.backend],
    ['precision', flags.precision],
    ['observe.metricsPort', flags.metricsPort],
    ['observe.metricsHost', flags.metricsHost && JSON.stringify(flags.metricsHost)],
  ];
  const given = keys.filter(([, value]) => value !== undefined);
  return [...(flags.set ?? []), ...given.map(([key, value]) => `${key}=${value}`)];
}

/** With `--workers` alone, a number of workers that no longer fits the expert-parallel size is not the user's mistake. */
function onlyWorkersGiven({ set = [], workers, expertParallel }: ConfigFlags): boolean {
  const named = set.some((override) => override.startsWith('parallel.expertParallel='));
  return workers !== undefined && expertParallel === undefined && !named;
}
