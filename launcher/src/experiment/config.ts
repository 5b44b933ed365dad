/** An experiment: runs that differ in some keys, side by side with numbers to compare them with. */

import { dirname } from 'node:path';
import { folderName, loadYamlConfig, resolvePath, SluiceError } from '@sluice/core';
import { RunConfig } from '@sluice/train';
import { z } from 'zod';
import { refuseOtherKind } from '../run/fileKind.ts';

/** One run of an experiment. */
export const ExperimentRow = z.strictObject({
  name: folderName()
    .regex(/^[\w.-]*$/, 'a name has letters, digits, dots, dashes and underscores only')
    .describe('Name of the row and of its run’s directory.'),
  method: z.string().describe('What the row is, in the words of a table.'),
  base: z
    .string()
    .optional()
    .meta({ format: 'path' })
    .describe('Configuration of a run that this row starts from, in place of the experiment’s.'),
  set: z
    .array(z.string())
    .default([])
    .describe('Changes to it, section.key=value each; paths are relative to that configuration.'),
  from: z
    .string()
    .optional()
    .describe(
      'Name of the row whose weights, of the same seed, this row begins with; random ones when left out.',
    ),
  baseline: z
    .string()
    .optional()
    .describe('Name of the row that this one is compared with; the first row when left out.'),
  addedMillions: z
    .number()
    .optional()
    .describe('Parameters that the row adds to its baseline according to the paper, in millions.'),
  paper: z
    .record(z.string(), z.number().nullable())
    .default({})
    .describe('Results of the paper by the name of the measure; null where training diverged.'),
  notes: z.string().optional().describe('What is to be known of the row.'),
});

export type ExperimentRow = z.infer<typeof ExperimentRow>;

/** What each trained model is asked: `sluice evaluate --task`, at one length. */
export const RetrievalConfig = z.strictObject({
  name: folderName().describe('Name of the question, by which results and claims call it.'),
  task: z.enum(['niah', 'vt']).describe('Needle in a haystack, or variable tracking.'),
  length: z.int().min(1).describe('Tokens of a prompt with its answer.'),
  depths: z
    .array(z.number().min(0).max(1))
    .min(1)
    .optional()
    .describe('Where the needle stands in the haystack, from 0 to 1 (niah).'),
  samples: z.int().min(1).optional().describe('Prompts at each depth.'),
  needles: z.int().min(1).optional().describe('Needles in a haystack (niah).'),
  chains: z.int().min(2).optional().describe('Chains of variables (vt).'),
  hops: z.int().min(0).optional().describe('Links of a chain (vt).'),
  set: z
    .array(z.string())
    .default([])
    .describe('Changes to the rotary embedding while it is asked, model.key=value each.'),
});

export type RetrievalConfig = z.infer<typeof RetrievalConfig>;

/** What is looked for, and where, by `sluice find-lr`. */
export const FindLrConfig = z
  .strictObject({
    from: z.number().positive().default(1e-3).describe('Lowest learning rate that is tried.'),
    to: z.number().positive().default(1).describe('Highest learning rate that is tried.'),
    perOctave: z
      .int()
      .min(1)
      .default(2)
      .describe('Rates between one and its double: the answer is exact to a factor of 2^(1/perOctave).'),
    lossBound: z
      .number()
      .positive()
      .optional()
      .describe(
        'Validation loss that a stable run ends below, nats a token; that of a unigram model on the corpus when left out.',
      ),
    lastingSteps: z
      .int()
      .min(1)
      .default(20)
      .describe(
        'A run whose mean loss of so many steps is above both that bound and the loss of a unigram model, once half of it is over, is given up.',
      ),
    spikesPerThousand: z
      .number()
      .positive()
      .default(50)
      .describe('A run with more spikes a thousand steps has failed.'),
  })
  .refine(({ from, to }) => from < to, { path: ['to'], error: 'is not above `from`' });

export type FindLrConfig = z.infer<typeof FindLrConfig>;

const SCALE_CHANGES = z
  .array(z.string())
  .describe('Changes of every row at this scale, section.key=value each, made after the row’s own.');

export const ExperimentConfig = z
  .strictObject({
    title: z.string().describe('Title of the experiment.'),
    source: z.string().optional().describe('Where its rows and the paper’s numbers come from.'),
    notes: z.string().optional().describe('What is to be known of all rows.'),
    base: z.string().meta({ format: 'path' }).describe('Configuration of a run that the rows start from.'),
    seeds: z.int().min(1).default(3).describe('Runs of each row, with the seeds 1, 2, …'),
    grid: z
      .record(z.string(), z.array(z.union([z.number(), z.string(), z.boolean()])).min(1))
      .default({})
      .describe('Keys of the configuration and their values: each row is run with each combination.'),
    retrieval: z
      .array(RetrievalConfig)
      .default([])
      .describe('What each trained model is asked to retrieve from long contexts.'),
    findLr: FindLrConfig.prefault({}).describe('What `sluice find-lr` looks for, and where.'),
    coreHours: z
      .strictObject({ small: z.number().optional(), tiny: z.number().optional() })
      .prefault({})
      .describe('Hours of one core that all runs of a scale took where they were measured.'),
    scales: z
      .strictObject({ small: SCALE_CHANGES.optional(), tiny: SCALE_CHANGES.optional() })
      .prefault({})
      .describe('How the rows are made small enough for less than the paper’s machines.'),
    rows: z.array(ExperimentRow).min(1).describe('The runs, in the order of the table.'),
  })
  .superRefine(({ rows, grid, retrieval }, context) => {
    retrieval.forEach(({ name }, index) => {
      if (retrieval.findIndex((one) => one.name === name) === index) return;
      const message = `a second question ${name}`;
      context.addIssue({ code: 'custom', path: ['retrieval', index, 'name'], message });
    });
    const isSeed = (set: string) => set.startsWith('seed=');
    if ('seed' in grid || rows.some(({ set }) => set.some(isSeed))) {
      context.addIssue({
        code: 'custom',
        path: ['seeds'],
        message: 'seeds are counted by `seeds`; no row sets its own',
      });
    }
    rows.forEach(({ name, baseline, from }, index) => {
      if (rows.findIndex((row) => row.name === name) < index) {
        context.addIssue({ code: 'custom', path: ['rows', index, 'name'], message: `a second row ${name}` });
      }
      if (baseline !== undefined && !rows.some((row) => row.name === baseline)) {
        const message = `no row is called ${baseline}`;
        context.addIssue({ code: 'custom', path: ['rows', index, 'baseline'], message });
      }
      const source = rows.findIndex((row) => row.name === from);
      if (from !== undefined && (source < 0 || source >= index)) {
        const message = `no row before this one is called ${from}`;
        context.addIssue({ code: 'custom', path: ['rows', index, 'from'], message });
      }
    });
  });

export type ExperimentConfig = z.infer<typeof ExperimentConfig>;

export type ExperimentScale = 'full' | keyof ExperimentConfig['scales'];

/**
 * The experiment of a file, with a row for each combination of its grid.
 * @throws the coded errors of `loadYamlConfig`; SLUICE_E_USAGE for a file of another kind; SLUICE_E_CONFIG_INVALID where two
 *   points of the grid make rows of one name
 */
export function loadExperiment(path: string): ExperimentConfig {
  refuseOtherKind(path, 'experiment');
  const experiment = loadYamlConfig(path, ExperimentConfig);
  const points = gridPoints(Object.entries(experiment.grid));
  const [first] = experiment.rows;
  const at = (point: GridPoint) =>
    experiment.rows.map((row) => rowAt({ ...row, baseline: row.baseline ?? first!.name }, point));
  const rows = points.flatMap(at);
  const twice = rows.find(({ name }, index) => rows.findIndex((row) => row.name === name) < index);
  if (twice) {
    throw new SluiceError(
      'SLUICE_E_CONFIG_INVALID',
      `${path}: two points of the grid make rows of one name, ${twice.name}.`,
    );
  }
  return { ...experiment, rows };
}

type GridValue = ExperimentConfig['grid'][string][number];
type GridPoint = readonly (readonly [key: string, value: GridValue])[];

function gridPoints([axis, ...others]: [string, GridValue[]][]): GridPoint[] {
  if (axis === undefined) return [[]];
  const [key, values] = axis;
  const rest = gridPoints(others);
  return values.flatMap((value) => rest.map((point) => [[key, value] as const, ...point]));
}

/** A row is compared with, and begins with, rows of the same point. */
function rowAt(row: ExperimentRow, point: GridPoint): ExperimentRow {
  if (point.length === 0) return row;
  const words = point.map(([key, value]) => `${key.slice(key.lastIndexOf('.') + 1)}-${value}`);
  const suffix = words.join('-').replaceAll(/[^\w.-]/g, '_');
  const named = (name: string) => `${name}-${suffix}`;
  return {
    ...row,
    name: named(row.name),
    method: `${row.method}, ${point.map(([key, value]) => `${key}=${value}`).join(', ')}`,
    set: [...row.set, ...point.map(([key, value]) => `${key}=${value}`)],
    ...(row.baseline !== undefined && { baseline: named(row.baseline) }),
    ...(row.from !== undefined && { from: named(row.from) }),
  };
}

/**
 * The configuration of a row's run; its paths are relative to the row's base.
 * @param path of the experiment's file
 * @throws the coded errors of `loadYamlConfig`; SLUICE_E_USAGE for a scale that the experiment does not have
 */
export function experimentRun(
  path: string,
  experiment: ExperimentConfig,
  row: ExperimentRow,
  scale: ExperimentScale = 'full',
): RunConfig {
  return loadYamlConfig(basePath(path, experiment, row), RunConfig, {
    overrides: [...row.set, ...scalingOf(path, experiment, scale)],
  });
}

/** @throws SLUICE_E_USAGE for a scale that the experiment does not have */
export function scalingOf(
  path: string,
  { scales }: ExperimentConfig,
  scale: ExperimentScale,
): readonly string[] {
  const scaling = scale === 'full' ? [] : scales[scale];
  if (scaling) return scaling;
  const known = ['full', ...Object.keys(scales)].join(', ');
  throw new SluiceError('SLUICE_E_USAGE', `The experiment ${path} has no scale ${scale}, but ${known}.`, {
    details: { scale },
  });
}

/** The directory that the paths of a row's configuration start from. */
export function experimentDirectory(path: string, experiment: ExperimentConfig, row: ExperimentRow): string {
  return dirname(basePath(path, experiment, row));
}

function basePath(path: string, { base }: ExperimentConfig, row: ExperimentRow): string {
  return resolvePath(path, row.base ?? base);
}

/** The row that another is compared with: itself for the first, and for one that names itself. */
export function baselineOf(experiment: ExperimentConfig, { baseline }: ExperimentRow): ExperimentRow {
  return experiment.rows.find(({ name }) => name === baseline) ?? experiment.rows[0]!;
}
