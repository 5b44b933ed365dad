/** Counts parameters of a model file, alone or against a baseline. */

import { SluiceError } from '@sluice/core';
import { countParameters, flopsPerToken, type ParameterCount, type Scale } from '@sluice/model';
import { terminalTable } from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import { baselineOf, type ExperimentRow, experimentRun, loadExperiment } from '../experiment/config.ts';
import { topKeys } from './fileKind.ts';
import { loadModel, type ModelFlags } from './loadModel.ts';

/**
 * @param path a file that holds a model alone, a run's whole configuration, or an experiment
 * @param flags `scale` is the baseline's as well, `set` is not
 * @throws SLUICE_E_USAGE for changes of an experiment; the coded errors of `loadYamlConfig`
 */
export function countModel(path: string, baselinePath?: string, flags: ModelFlags = {}): CommandResult {
  const { scale, set = [] } = flags;
  if (topKeys(path).includes('rows')) {
    if (set.length === 0) return countExperiment(path, scale);
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `--set ${set[0]} changes a model, but ${path} is an experiment, whose rows say what they change.`,
    );
  }
  const { model, run } = loadModel(path, flags);
  const { sequenceLength } = run.data;
  const counted = countParameters(model);
  const baseline =
    baselinePath === undefined ? undefined : countParameters(loadModel(baselinePath, { scale }).model);
  const added = baseline && counted.total - baseline.total;
  const addedActive = baseline && counted.active - baseline.active;
  const flops = flopsPerToken(model, sequenceLength);

  const parts = Object.keys(counted.byPart) as (keyof ParameterCount['byPart'])[];
  const rows = parts.map((part) => [
    part,
    formatExact(counted.byPart[part]),
    ...(baseline ? [formatDifference(counted.byPart[part] - baseline.byPart[part])] : []),
  ]);
  rows.push(['total', formatExact(counted.total), ...(added === undefined ? [] : [formatDifference(added)])]);
  rows.push([
    'active',
    formatExact(counted.active),
    ...(addedActive === undefined ? [] : [formatDifference(addedActive)]),
  ]);
  const header = ['part', 'parameters', ...(baseline ? ['added'] : [])];
  return {
    text:
      `${terminalTable(rows, { header, align: ['left', 'right', 'right'] })}\n` +
      `${formatExact(flops)} floating-point operations a token in training, at sequences of ${formatExact(sequenceLength)}`,
    json: {
      total: counted.total,
      active: counted.active,
      embedding: counted.embedding,
      byPart: counted.byPart,
      flopsPerToken: flops,
      sequenceLength,
      added: added ?? null,
      addedActive: addedActive ?? null,
    },
  };
}

/** A row of an experiment, counted. */
interface CountedRow {
  readonly name: string;
  readonly method: string;
  readonly total: number;
  readonly active: number;
  /** Over its baseline. */
  readonly added: number;
  /** As the paper has it, in millions. */
  readonly paperAddedMillions: number | null;
}

/** The models of an experiment's rows, what each adds, and what the paper says that it adds. */
function countExperiment(path: string, scale: Scale | undefined): CommandResult {
  const experiment = loadExperiment(path);
  const countRow = (row: ExperimentRow) => countParameters(experimentRun(path, experiment, row, scale).model);
  const rows = experiment.rows.map((row): CountedRow => {
    const { total, active } = countRow(row);
    const added = total - countRow(baselineOf(experiment, row)).total;
    const { name, method, addedMillions = null } = row;
    return { name, method, total, active, added, paperAddedMillions: addedMillions };
  });
  const cells = rows.map(({ method, total, active, added, paperAddedMillions }) => [
    method,
    formatExact(total),
    formatExact(active),
    formatDifference(added),
    paperAddedMillions === null ? '' : `${paperAddedMillions} M`,
  ]);
  const header = ['row', 'parameters', 'active', 'added', 'in the paper'];
  const table = terminalTable(cells, { header, align: ['left', 'right', 'right', 'right', 'right'] });
  return { text: `${experiment.title} (${experiment.source ?? path})\n\n${table}`, json: { rows } };
}

/** All digits: these numbers are compared with those of papers. */
function formatExact(count: number): string {
  return count.toLocaleString('en-US');
}

function formatDifference(count: number): string {
  return count < 0 ? `−${formatExact(-count)}` : `+${formatExact(count)}`;
}
