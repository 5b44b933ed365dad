/** An experiment: runs that differ in some keys, side by side with numbers to compare them with. */

import { folderName, loadYamlConfig, resolvePath, SluiceError } from '@sluice/core';
import { RunConfig } from '@sluice/train';
import { z } from 'zod';

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

const SCALE_CHANGES = z
  .array(z.string())
  .describe('Changes of every row at this scale, section.key=value each, made after the row’s own.');

export const ExperimentConfig = z
  .strictObject({
    title: z.string().describe('Title of the experiment.'),
    source: z.string().optional().describe('Where its rows and the paper’s numbers come from.'),
    notes: z.string().optional().describe('What is to be known of all rows.'),
    base: z.string().meta({ format: 'path' }).describe('Configuration of a run that the rows start from.'),
    scales: z
      .strictObject({ small: SCALE_CHANGES.optional(), tiny: SCALE_CHANGES.optional() })
      .prefault({})
      .describe('How the rows are made small enough for less than the paper’s machines.'),
    rows: z.array(ExperimentRow).min(1).describe('The runs, in the order of the table.'),
  })
  .superRefine(({ rows }, context) => {
    rows.forEach(({ name, baseline }, index) => {
      if (rows.findIndex((row) => row.name === name) < index) {
        context.addIssue({ code: 'custom', path: ['rows', index, 'name'], message: `a second row ${name}` });
      }
      if (baseline !== undefined && !rows.some((row) => row.name === baseline)) {
        const message = `no row is called ${baseline}`;
        context.addIssue({ code: 'custom', path: ['rows', index, 'baseline'], message });
      }
    });
  });

export type ExperimentConfig = z.infer<typeof ExperimentConfig>;

export type ExperimentScale = 'full' | keyof ExperimentConfig['scales'];

/** @throws the coded errors of `loadYamlConfig` */
export function loadExperiment(path: string): ExperimentConfig {
  return loadYamlConfig(path, ExperimentConfig);
}

/**
 * The configuration of a row's run.
 * @param path of the experiment's file
 * @throws the coded errors of `loadYamlConfig`; SLUICE_E_USAGE for a scale that the experiment does not have
 */
export function experimentRun(
  path: string,
  experiment: ExperimentConfig,
  row: ExperimentRow,
  scale: ExperimentScale = 'full',
): RunConfig {
  const scaling = scale === 'full' ? [] : experiment.scales[scale];
  if (!scaling) {
    throw new SluiceError('SLUICE_E_USAGE', `The experiment ${path} has no scale ${scale}.`);
  }
  const base = resolvePath(path, row.base ?? experiment.base);
  return loadYamlConfig(base, RunConfig, { overrides: [...row.set, ...scaling] });
}

/** The row that another is compared with: itself for the first, and for one that names itself. */
export function baselineOf(experiment: ExperimentConfig, { baseline }: ExperimentRow): ExperimentRow {
  return experiment.rows.find(({ name }) => name === baseline) ?? experiment.rows[0]!;
}
