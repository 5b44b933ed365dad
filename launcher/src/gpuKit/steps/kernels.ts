/** Every kernel: its bits beside the emulator's, its values beside double precision. */

import { selectBackend } from '@sluice/engine';
import {
  type Checked,
  checksFor,
  cudaBackend,
  matching,
  readGolden,
  runCheck,
  TENSOR_CORES,
  type TensorCores,
} from '@sluice/engine/cuda';
import { terminalTable } from '@sluice/observe';
import type { RunStep, StepReport } from '../step.ts';

interface Row {
  readonly name: string;
  /** With which tensor cores the bits are the emulator's. */
  readonly bits: readonly TensorCores[];
  /** The largest error as a share of what is allowed; null where the case failed. */
  readonly error: number | null;
  readonly failure?: string;
}

export const runStep: RunStep = async ({ keep }) => {
  await selectBackend('cuda');
  const { device, arithmetic } = cudaBackend();
  const golden = readGolden();
  const rows: Row[] = [];
  for (const name of checksFor(device)) {
    rows.push(rowOf(name, () => runCheck(device, name)));
    keep({ arithmetic, rows });
    // A launch that failed leaves nothing to go on with.
    if (rows.at(-1)!.failure !== undefined) break;
  }
  return reportOf(rows, arithmetic);

  function rowOf(name: string, check: () => Checked): Row {
    try {
      const checked = check();
      const error = Math.max(0, ...Object.values(checked.errors));
      return { name, bits: matching(checked, golden), error };
    } catch (error) {
      return { name, bits: [], error: null, failure: (error as Error).message };
    }
  }
};

function reportOf(rows: readonly Row[], arithmetic: string): StepReport {
  const ofOneKind = TENSOR_CORES.find((kind) => rows.every(({ bits }) => bits.includes(kind)));
  const isRight = ({ error }: Row) => error !== null && error < 1;
  const [others, wrong] = [rows.filter(({ bits }) => bits.length === 0), rows.filter((row) => !isRight(row))];
  const shown = rows.filter((row) => !isRight(row) || row.bits.length === 0);
  const largest = [...rows].sort((a, b) => (b.error ?? 0) - (a.error ?? 0)).slice(0, 5);
  const table = [...new Set([...shown, ...largest])].map(({ name, bits, error, failure }) => [
    name,
    bits.length === 0
      ? 'other bits'
      : bits.length === TENSOR_CORES.length
        ? 'the emulator’s bits'
        : `the bits of ${bits[0]}`,
    failure ?? error!.toFixed(3),
  ]);
  const bitsText = ofOneKind
    ? `all ${rows.length} have the emulator’s bits (tensor cores as ${ofOneKind}’s)`
    : `${others.length} of ${rows.length} have other bits than the emulator’s`;
  return {
    verdict: ofOneKind && wrong.length === 0 ? 'right' : 'wrong',
    summary: `${bitsText}; ${wrong.length === 0 ? 'all' : `all but ${wrong.length}`} within their bounds of double precision`,
    text: terminalTable(table, {
      header: ['wrong ones, and the largest errors', 'bits', 'error, of its bound'],
      align: ['left', 'left', 'right'],
    }),
    data: { arithmetic, tensorCores: ofOneKind ?? null, rows },
  };
}
