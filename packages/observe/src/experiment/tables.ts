/** Results as flat tables: one line for each run. */

import { join } from 'node:path';
import { writeFileAtomic } from '@sluice/core';
import { csvHeader, csvLines, ParquetParts, type TableColumn } from '../flatTable.ts';
import { perplexityOf, questionsOf } from './compare.ts';
import type { FindLrResults } from './findLr.ts';
import type {
  ExperimentDiagnosis,
  ExperimentResultRow,
  ExperimentResults,
  ExperimentRun,
} from './results.ts';

type RunOfRow = ExperimentRun & { readonly of: ExperimentResults; readonly inRow?: ExperimentResultRow };

const RUN_COLUMNS: readonly TableColumn<RunOfRow>[] = [
  { name: 'experiment', type: 'text', value: ({ of }) => of.name },
  { name: 'scale', type: 'text', value: ({ of }) => of.scale },
  { name: 'version', type: 'text', value: ({ of }) => of.version },
  { name: 'arithmetic', type: 'text', value: ({ arithmetic }) => arithmetic },
  { name: 'row', type: 'text', value: ({ row }) => row },
  { name: 'method', type: 'text', value: ({ inRow }) => inRow?.method ?? null },
  { name: 'baseline', type: 'text', value: ({ inRow }) => inRow?.baseline ?? null },
  { name: 'seed', type: 'whole', value: ({ seed }) => seed },
  { name: 'learningRate', type: 'real', value: ({ learningRate }) => learningRate },
  { name: 'outcome', type: 'text', value: ({ outcome }) => outcome },
  { name: 'step', type: 'whole', value: ({ step }) => step },
  { name: 'steps', type: 'whole', value: ({ steps }) => steps },
  { name: 'tokens', type: 'whole', value: ({ tokens }) => tokens },
  { name: 'trainLoss', type: 'real', value: ({ trainLoss }) => trainLoss },
  { name: 'validationLoss', type: 'real', value: ({ validationLoss }) => validationLoss },
  { name: 'perplexity', type: 'real', value: (run) => finite(perplexityOf(run)) },
  { name: 'spikes', type: 'whole', value: ({ spikes }) => spikes },
  diagnosed('firstTokenAttention'),
  diagnosed('massiveActivation'),
  diagnosed('feedForwardActivation'),
  diagnosed('gateScoreMean'),
  diagnosed('gateBelowTenth'),
  diagnosed('largestAttentionLogit'),
  { name: 'parametersTotal', type: 'whole', value: ({ inRow }) => inRow?.parameters.total ?? null },
  { name: 'parametersActive', type: 'whole', value: ({ inRow }) => inRow?.parameters.active ?? null },
  { name: 'parametersAdded', type: 'whole', value: ({ inRow }) => inRow?.parameters.added ?? null },
  { name: 'configHash', type: 'text', value: ({ configHash }) => configHash },
  { name: 'weightsHash', type: 'text', value: ({ weightsHash }) => weightsHash },
  { name: 'errorCode', type: 'text', value: ({ errorCode }) => errorCode },
  { name: 'reason', type: 'text', value: ({ reason }) => reason },
];

type Search = FindLrResults['variants'][number]['seeds'][number];
type ProbeOfSeed = Search['probes'][number] & {
  readonly of: FindLrResults;
  readonly variant: FindLrResults['variants'][number];
  readonly search: Search;
};

const PROBE_COLUMNS: readonly TableColumn<ProbeOfSeed>[] = [
  { name: 'experiment', type: 'text', value: ({ of }) => of.name },
  { name: 'scale', type: 'text', value: ({ of }) => of.scale },
  { name: 'version', type: 'text', value: ({ of }) => of.version },
  { name: 'arithmetic', type: 'text', value: ({ arithmetic }) => arithmetic },
  { name: 'variant', type: 'text', value: ({ variant }) => variant.name },
  { name: 'method', type: 'text', value: ({ variant }) => variant.method },
  { name: 'seed', type: 'whole', value: ({ search }) => search.seed },
  { name: 'learningRate', type: 'real', value: ({ learningRate }) => learningRate },
  { name: 'outcome', type: 'text', value: ({ outcome }) => outcome },
  { name: 'step', type: 'whole', value: ({ step }) => step },
  { name: 'trainLoss', type: 'real', value: ({ trainLoss }) => trainLoss },
  { name: 'validationLoss', type: 'real', value: ({ validationLoss }) => validationLoss },
  { name: 'spikesPerThousand', type: 'real', value: ({ spikesPerThousand }) => spikesPerThousand },
  { name: 'largestStable', type: 'real', value: ({ search }) => search.largestStable },
  { name: 'smallestUnstable', type: 'real', value: ({ search }) => search.smallestUnstable },
  { name: 'configHash', type: 'text', value: ({ configHash }) => configHash },
  { name: 'weightsHash', type: 'text', value: ({ weightsHash }) => weightsHash },
  { name: 'reason', type: 'text', value: ({ reason }) => reason },
];

function retrievalColumns(question: string): TableColumn<RunOfRow>[] {
  return (['accuracy', 'choiceAccuracy', 'answerLoss'] as const).map((score) => ({
    ...{ name: `${question}.${score}`, type: 'real' },
    value: ({ retrieval }) => retrieval?.[question]?.[score] ?? null,
  }));
}

function diagnosed(name: Exclude<keyof ExperimentDiagnosis, 'layers'>): TableColumn<RunOfRow> {
  return { name, type: 'real', value: ({ diagnosis }) => diagnosis?.[name] ?? null };
}

/** A table whose text and bytes are made when asked for. */
export interface FlatTable {
  readonly csv: () => string;
  readonly parquet: () => Uint8Array;
}

/** One line for each run, in the order of the results. */
export function experimentTable(results: ExperimentResults): FlatTable {
  const rows = new Map(results.rows.map((row) => [row.name, row]));
  const runs = results.runs.map((run): RunOfRow => {
    const inRow = rows.get(run.row);
    return { ...run, of: results, ...(inRow ? { inRow } : {}) };
  });
  return flatTable([...RUN_COLUMNS, ...questionsOf(results.runs).flatMap(retrievalColumns)], runs);
}

/** One line for each learning rate that was tried with a variant and a seed. */
export function findLrTable(results: FindLrResults): FlatTable {
  const probes = results.variants.flatMap((variant) =>
    variant.seeds.flatMap((search) =>
      search.probes.map((probe): ProbeOfSeed => ({ ...probe, of: results, variant, search })),
    ),
  );
  return flatTable(PROBE_COLUMNS, probes);
}

/**
 * Writes `<name>.csv` and `<name>.parquet`, each atomically.
 * @param name `results` beside `results.json`
 * @returns their paths
 * @throws SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE
 */
export async function writeTable(directory: string, name: string, table: FlatTable): Promise<string[]> {
  const paths = [join(directory, `${name}.csv`), join(directory, `${name}.parquet`)] as const;
  await writeFileAtomic(paths[0], table.csv());
  await writeFileAtomic(paths[1], table.parquet());
  return [...paths];
}

function flatTable<T>(columns: readonly TableColumn<T>[], items: readonly T[]): FlatTable {
  return {
    csv: () => csvHeader(columns) + csvLines(columns, items),
    parquet: () => {
      const file = new ParquetParts(columns);
      return new Uint8Array(Buffer.concat([...(items.length > 0 ? [file.add(items)] : []), file.end()]));
    },
  };
}

function finite(value: number | null): number | null {
  return Number.isFinite(value) ? value : null;
}
