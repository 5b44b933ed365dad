/** A step in its process: what it is told, and how it hands its report back, by files. */

import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { isCudaEmulated } from '@sluice/engine';
import type { Scale } from '@sluice/engine/cuda';
import { KIT_STEPS } from './catalog.ts';
import type { KitContext, StepReport } from './step.ts';

export const STEP_FLAG = '--run-step';
/** Of a step's time, what it has for telling what it measured. */
const TELLING_SHARE = 0.05;

/** What a step's process is told, as one word of JSON. */
export interface StepOrder {
  readonly name: string;
  readonly scale: Scale;
  readonly folder: string;
  readonly earlier: KitContext['earlier'];
  readonly reportFile: string;
  /** When it is cut off, since its begin. */
  readonly limitMs: number;
}

/** What lies in the report's file: the end, or what there was until now, or why it failed. */
export type StepFile = Partial<StepReport> & { readonly error?: string };

/** The words that start a step's process. The order goes by a file: it may be long. */
export function stepWords(order: StepOrder): string[] {
  mkdirSync(order.folder, { recursive: true });
  const file = `${order.reportFile}.order`;
  writeFileSync(file, JSON.stringify(order));
  return [STEP_FLAG, file];
}

/** @returns the exit code of the step's process */
export async function stepMain([file]: readonly string[]): Promise<number> {
  const { name, reportFile, limitMs, ...order } = JSON.parse(readFileSync(file!, 'utf8')) as StepOrder;
  const write = (content: StepFile) => {
    writeFileSync(`${reportFile}.new`, JSON.stringify(content));
    renameSync(`${reportFile}.new`, reportFile);
  };
  let kept: StepReport['data'] = {};
  try {
    const { runStep } = await KIT_STEPS.find((step) => step.name === name)!.load();
    const report = await runStep({
      ...order,
      isEmulated: isCudaEmulated(),
      endsAtMs: limitMs * (1 - TELLING_SHARE),
      keep(data) {
        kept = data;
        write({ data });
      },
      log: (line) => process.stderr.write(`  ${line}\n`),
    });
    write(report);
    if (report.text) process.stdout.write(`${report.text}\n`);
    return 0;
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    write({ data: kept, error: code ? `${code}: ${message}` : ((error as Error).stack ?? message) });
    return 1;
  }
}
