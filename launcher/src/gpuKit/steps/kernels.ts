/** Every kernel: its bits beside the emulator's, its values beside double precision. */

import { selectBackend } from '@sluice/engine';
import {
  checksFor,
  cudaBackend,
  matching,
  readGolden,
  runCheck,
  TENSOR_CORES,
  type TensorCores,
} from '@sluice/engine/cuda';
import { terminalTable } from '@sluice/observe';
import { casesOf } from '../cases.ts';
import type { OpenSeries, RunStep, StepReport } from '../step.ts';

interface Row {
  readonly name: string;
  /** With which tensor cores the bits are the emulator's. */
  readonly bits: readonly TensorCores[];
  /** The largest error as a share of what is allowed; null where the case failed. */
  readonly error: number | null;
  readonly failure?: string;
}

interface Facts {
  readonly arithmetic: string;
}

export const openSeries: OpenSeries = async () => {
  await selectBackend('cuda');
  const { device, arithmetic } = cudaBackend();
  const golden = readGolden();
  return {
    names: checksFor(device),
    facts: { arithmetic } satisfies Facts,
    run(name): Omit<Row, 'name'> {
      const checked = runCheck(device, name);
      return { bits: matching(checked, golden), error: Math.max(0, ...Object.values(checked.errors)) };
    },
  };
};

export const runStep: RunStep = async (context) => {
  const rows: Row[] = [];
  let arithmetic = '';
  const cases = casesOf<Facts, Omit<Row, 'name'>>('kernels', context, {
    onFacts: (facts) => {
      arithmetic = facts.arithmetic;
    },
    // Of a case's kernels the launch of the one that fails says so.
    environment: { CUDA_LAUNCH_BLOCKING: '1' },
  });
  for await (const { name, result, failure } of cases) {
    rows.push(result ? { name, ...result } : { name, bits: [], error: null, failure: failure! });
    context.keep({ arithmetic, rows });
  }
  return reportOf(rows, arithmetic);
};

export function reportOf(rows: readonly Row[], arithmetic: string): StepReport {
  const ofOneKind = TENSOR_CORES.find((kind) => rows.every(({ bits }) => bits.includes(kind)));
  const isRight = ({ error }: Row) => error !== null && error < 1;
  const [failed, computed] = [rows.filter(hasFailed), rows.filter((row) => !hasFailed(row))];
  const others = computed.filter(({ bits }) => bits.length === 0);
  const wrong = computed.filter((row) => !isRight(row));
  const shown = rows.filter((row) => !isRight(row) || row.bits.length === 0);
  const largest = [...rows].sort((a, b) => (b.error ?? 0) - (a.error ?? 0)).slice(0, 5);
  const table = [...new Set([...shown, ...largest])].map(({ name, bits, error, failure }) => [
    name,
    failure !== undefined
      ? 'failed'
      : bits.length === 0
        ? 'other bits'
        : bits.length === TENSOR_CORES.length
          ? 'the emulator’s bits'
          : `the bits of ${bits[0]}`,
    failure ?? error!.toFixed(3),
  ]);
  const summary = [
    failed.length > 0 &&
      `${failed.length} of ${rows.length} failed, at first ${failed[0]!.name}: ${failed[0]!.failure}`,
    ofOneKind
      ? `all ${rows.length} have the emulator’s bits (tensor cores as ${ofOneKind}’s)`
      : computed.length > 0 && `${others.length} of ${computed.length} have other bits than the emulator’s`,
    computed.length > 0 &&
      `${wrong.length === 0 ? 'all' : `all but ${wrong.length}`} within their bounds of double precision`,
  ];
  return {
    verdict: ofOneKind && wrong.length === 0 ? 'right' : 'wrong',
    summary: summary.filter(Boolean).join('; '),
    text: terminalTable(table, {
      header: ['wrong ones, and the largest errors', 'bits', 'error, of its bound'],
      align: ['left', 'left', 'right'],
    }),
    data: { arithmetic, tensorCores: ofOneKind ?? null, rows },
  };
}

const hasFailed = ({ failure }: Row) => failure !== undefined;
