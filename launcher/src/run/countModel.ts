/** Counts parameters of a model file, alone or against a baseline. */

import { loadYamlConfig } from '@sluice/core';
import { countParameters, flopsPerToken, ModelConfig, type ParameterCount } from '@sluice/model';
import { terminalTable } from '@sluice/observe';
import { RunConfig } from '@sluice/train';
import { z } from 'zod';
import type { CommandResult } from '../cli/command.ts';

/** Sequence length for the arithmetic of attention when the file names none: that of the paper's pretraining. */
const DEFAULT_SEQUENCE_LENGTH = 4096;

/**
 * @param path a file that holds a model alone, or a run's whole configuration
 * @throws the coded errors of `loadYamlConfig`
 */
export function countModel(path: string, baselinePath?: string): CommandResult {
  const { model, sequenceLength } = loadModel(path);
  const counted = countParameters(model);
  const baseline = baselinePath === undefined ? undefined : countParameters(loadModel(baselinePath).model);
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

function loadModel(path: string): { model: ModelConfig; sequenceLength: number } {
  if (!isRunConfig(path)) {
    return { model: loadYamlConfig(path, ModelConfig), sequenceLength: DEFAULT_SEQUENCE_LENGTH };
  }
  const config = loadYamlConfig(path, RunConfig);
  return { model: config.model, sequenceLength: config.data.sequenceLength };
}

/** A run's configuration has sections that a model has no keys for. */
function isRunConfig(path: string): boolean {
  const sections = loadYamlConfig(path, z.record(z.string(), z.unknown()));
  return 'model' in sections;
}

/** All digits: these numbers are compared with those of papers. */
function formatExact(count: number): string {
  return count.toLocaleString('en-US');
}

function formatDifference(count: number): string {
  return count < 0 ? `−${formatExact(-count)}` : `+${formatExact(count)}`;
}
