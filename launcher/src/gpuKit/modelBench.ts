/** Training steps of a model on the card: time, utilization and memory. */

import { selectBackend } from '@sluice/engine';
import { cudaBackend } from '@sluice/engine/cuda';
import type { ModelConfig } from '@sluice/model';
import { formatBytes, terminalTable } from '@sluice/observe';
import { benchModel, deviceOf } from '@sluice/train';
import { ceilingsOf } from './ceilings.ts';
import type { KitContext, StepReport } from './step.ts';

export interface ModelRun {
  readonly name: string;
  readonly model: ModelConfig;
  readonly sequenceLength: number;
  /** Of a step, each a grain. */
  readonly sequences: number;
  readonly steps: number;
}

/** Cards whose rate on tensor cores `sluice plan` knows, by what their names have. */
const KNOWN = [
  ['H200', 'h200'],
  ['H100 80GB', 'h100'],
  ['A100', 'a100'],
] as const;

/** bf16 operations a second by the data sheet. */
export function publishedPeak(card: string): number | undefined {
  const known = KNOWN.find(([part]) => card.includes(part));
  return known && deviceOf(known[1], 1).cudaFlopsPerSecond?.bf16;
}

export async function measureModel(run: ModelRun, context: KitContext): Promise<StepReport> {
  const ceilings = await ceilingsOf(context);
  if (ceilings) context.keep({ ceilings });
  await selectBackend('cuda');
  const { device } = cudaBackend();
  const card = device.driver.deviceName;
  const measured = await benchModel({ ...run, backend: 'cuda' });
  const { peakUsedBytes, allocatedBytes } = device.arena.statistics();
  const flops = measured.flopsPerToken * measured.tokensPerSecond;
  const published = publishedPeak(card);
  const ofTensorCores = ceilings && flops / ceilings.tensorGflops / 1e9;
  const shares = {
    ...(ceilings && { ofTensorCores }),
    ...(published !== undefined && { modelFlopsUtilization: flops / published }),
  };
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  const ofRate = ceilings && `${percent(ofTensorCores!)} of ${ceilings.instruction}’s rate`;
  const tokens = run.sequences * run.sequenceLength;
  const rows = [
    ['parameters', measured.parameters.toLocaleString('en')],
    ['a step', `${measured.stepMs.toFixed(1)} ms for ${tokens} tokens`],
    ...Object.entries(measured.seconds).map(([part, seconds]) => [
      `  ${part}`,
      `${(1000 * seconds).toFixed(1)} ms`,
    ]),
    ['tokens a second', measured.tokensPerSecond.toFixed(0)],
    ['arithmetic', [`${(flops / 1e12).toFixed(3)} TFLOP/s`, ofRate].filter(Boolean).join(', ')],
    [
      'MFU',
      published === undefined
        ? `no published rate is known for ${card}`
        : `${percent(flops / published)} of ${published / 1e12} TFLOP/s`,
    ],
    ['memory', `${formatBytes(peakUsedBytes)} at most, ${formatBytes(allocatedBytes)} taken of the card`],
    ['losses', measured.losses.map((loss) => loss.toFixed(4)).join(', ')],
  ];
  const isSound = measured.losses.every(Number.isFinite);
  const rate = published === undefined ? (ofRate ?? 'of no known rate') : `MFU ${percent(flops / published)}`;
  return {
    verdict: isSound ? 'right' : 'wrong',
    summary: `${run.name}: ${measured.stepMs.toFixed(1)} ms a step of ${tokens} tokens, ${rate}, ${formatBytes(peakUsedBytes)}`,
    text: terminalTable(rows, { align: ['left', 'left'] }),
    data: {
      ...run,
      ...measured,
      ...shares,
      peakUsedBytes,
      allocatedBytes,
      ...(ceilings && { ceilings }),
      card,
    },
  };
}
