/**
 * Results as flat tables, for spreadsheets and data frames: one line for each run, the same columns in CSV and in Parquet. The bytes
 * depend on the results alone.
 */

import { join } from 'node:path';
import { writeFileAtomic } from '@sluice/core';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { perplexityOf, questionsOf } from './compare.ts';
import type { FindLrResults } from './findLr.ts';
import type {
  ExperimentDiagnosis,
  ExperimentResultRow,
  ExperimentResults,
  ExperimentRun,
} from './results.ts';

export type Cell = string | number | null;

/** A column: `whole` numbers are 64 bits in Parquet, `real` ones double precision. */
export interface TableColumn<T> {
  readonly name: string;
  readonly type: 'text' | 'whole' | 'real';
  readonly value: (item: T) => Cell;
}

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
  /** The same in parts, which together may be longer than any string. */
  readonly csvParts: () => Iterable<string>;
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

/** Lines of a part. */
const CSV_LINES = 5000;

export function flatTable<T>(columns: readonly TableColumn<T>[], items: readonly T[]): FlatTable {
  function* csvParts(): Generator<string> {
    yield `${columns.map(({ name }) => csvCell(name)).join(',')}\n`;
    for (let start = 0; start < items.length; start += CSV_LINES) {
      const lines = items.slice(start, start + CSV_LINES);
      yield lines.map((item) => `${columns.map(({ value }) => csvCell(value(item))).join(',')}\n`).join('');
    }
  }
  return {
    csvParts,
    csv: () => [...csvParts()].join(''),
    parquet: () => {
      const columnData = columns.map(({ name, type, value }) => ({
        ...{ name, nullable: true, type: PARQUET_TYPES[type] },
        data: items.map((item) => {
          const cell = value(item);
          return type === 'whole' && cell !== null ? BigInt(cell) : cell;
        }),
      }));
      return new Uint8Array(parquetWriteBuffer({ columnData }));
    },
  };
}

const PARQUET_TYPES = { text: 'STRING', whole: 'INT64', real: 'DOUBLE' } as const;

/** As RFC 4180 has it: quoted where the text would otherwise end the cell. What is unknown is empty, a text of nothing is quoted. */
function csvCell(cell: Cell): string {
  if (cell === null) return '';
  if (typeof cell === 'number') return String(cell);
  return cell === '' || /[",\r\n]/.test(cell) || cell.trim() !== cell
    ? `"${cell.replaceAll('"', '""')}"`
    : cell;
}

function finite(value: number | null): number | null {
  return Number.isFinite(value) ? value : null;
}
