/** The same work by PyTorch in the same run, where Python has it: cuBLAS's products, its fastest attention. */

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { sluiceRoot } from '@sluice/core';
import { type KernelRate, rateCases } from '@sluice/engine/cuda';
import { terminalTable } from '@sluice/observe';
import type { RunStep, StepReport } from '../step.ts';

/** A line of the Python program: its versions, or what came of a case. */
interface Line {
  /** Why it cannot compute. */
  readonly absence?: string;
  readonly torch?: string;
  readonly cuda?: string;
  readonly case?: string;
  /** By the library that computed. */
  readonly ms?: Readonly<Record<string, number>>;
  readonly error?: string;
}

const SCRIPT = join(sluiceRoot, 'packages/engine/cuda/yardsticks.py');

const skipped = (summary: string): StepReport => ({ verdict: 'skipped', summary, data: {} });

export const runStep: RunStep = async ({ scale, isEmulated, earlier, keep, log }) => {
  if (isEmulated) return skipped('there is no card');
  const cases = Object.entries(rateCases(scale)).flatMap(([name, { yardstick }]) =>
    yardstick ? [{ case: name, ...yardstick }] : [],
  );
  const lines: Line[] = [];
  for await (const line of linesOf(JSON.stringify(cases), log)) {
    if (line.absence !== undefined) return skipped(line.absence);
    lines.push(line);
    keep({ lines });
  }
  const own = new Map(
    (earlier.rates?.kernels as KernelRate[] | undefined)?.map((rate) => [rate.name, rate.ms]),
  );
  const compared = lines.flatMap(({ case: name, ms }) =>
    name === undefined || !ms
      ? []
      : Object.entries(ms).map(([library, theirs]) => ({ name, library, theirs, ours: own.get(name) })),
  );
  const rows = compared.map(({ name, library, theirs, ours }) => [
    name,
    library,
    theirs.toFixed(4),
    ours?.toFixed(4) ?? '',
    ours === undefined ? '' : (theirs / ours).toFixed(2),
  ]);
  const failed = lines.filter(({ error }) => error !== undefined).length;
  return {
    verdict: compared.length > 0 ? 'right' : 'wrong',
    summary: `${compared.length} measurements by PyTorch ${lines[0]?.torch ?? ''}${failed > 0 ? `; ${failed} cases failed` : ''}`,
    text: terminalTable(rows, {
      header: ['work', 'library', 'its ms', 'our ms', 'our share of its rate'],
      align: ['left', 'left', 'right', 'right', 'right'],
    }),
    data: { lines, compared },
  };
};

async function* linesOf(input: string, log: (line: string) => void): AsyncGenerator<Line> {
  const python = process.env.PYTHON ?? 'python3';
  const child = spawn(python, [SCRIPT], { stdio: ['pipe', 'pipe', 'pipe'] });
  const failure = new Promise<Line>((resolve) => {
    child.once('error', ({ message }) => resolve({ absence: `${python} does not start: ${message}` }));
    child.once('close', (code) =>
      resolve({ absence: `${python} ended with ${code} before it said anything` }),
    );
  });
  // Python may be gone before it has read them.
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  createInterface({ input: child.stderr }).on('line', log);
  let lines = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    if (!line.startsWith('{')) continue;
    lines++;
    yield JSON.parse(line) as Line;
  }
  if (lines === 0) yield await failure;
}
