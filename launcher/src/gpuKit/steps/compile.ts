/**
 * Machine code of all kernels, for which those steps would wait otherwise that need them first: by as many processes as there are cores. What
 * was compiled before, or comes with an archive, is there at once.
 */

import { availableCores } from '@sluice/core';
import { openCompiler } from '@sluice/engine/cuda';
import { terminalTable } from '@sluice/observe';
import { casesOf } from '../cases.ts';
import type { KitContext, OpenSeries, RunStep } from '../step.ts';

/** Each process of NVRTC takes some hundred megabytes. */
const MOST_TOGETHER = 16;

interface Compiled {
  readonly seconds: number;
}

export const openSeries: OpenSeries = async () => {
  const { architecture, sources, compiler } = openCompiler();
  const byName = new Map(sources.map((source) => [source.name, source]));
  return {
    names: [...byName.keys()],
    facts: architecture,
    run(name): Compiled {
      const begun = performance.now();
      compiler.compile(byName.get(name)!);
      return { seconds: (performance.now() - begun) / 1000 };
    },
  };
};

export const runStep: RunStep = async (context) => {
  if (context.isEmulated)
    return { verdict: 'skipped', summary: 'the emulator has its own kernels', data: {} };
  const { architecture, sources } = openCompiler();
  const begun = performance.now();
  const { rows, failures } = await compileAll(
    sources.map(({ name }) => name),
    context,
  );
  const seconds = (performance.now() - begun) / 1000;
  const longest = [...rows].sort((a, b) => b.seconds - a.seconds).slice(0, 5);
  return {
    verdict: failures.length === 0 ? 'right' : 'wrong',
    summary:
      failures[0]?.split('\n')[0] ??
      `${rows.length} files of kernels for ${architecture} in ${seconds.toFixed(1)} s`,
    text: [
      terminalTable(
        longest.map(({ name, seconds }) => [name, seconds.toFixed(1)]),
        { header: ['the longest', 's'], align: ['left', 'right'] },
      ),
      ...failures,
    ].join('\n'),
    data: { architecture, seconds, rows, failures },
  };
};

/** Each in a process of its own, in turns: none that crashes or hangs costs another. @param of how a file is compiled */
export async function compileAll(
  names: readonly string[],
  context: Pick<KitContext, 'scale' | 'isEmulated' | 'endsAtMs' | 'keep'>,
  // How long a file takes is a matter of the host, and none waits for another.
  of = (name: string) =>
    casesOf<string, Compiled>('compile', context, { names: [name], caseMs: Number.POSITIVE_INFINITY }),
): Promise<{ readonly rows: (Compiled & { readonly name: string })[]; readonly failures: string[] }> {
  const rows: (Compiled & { readonly name: string })[] = [];
  const failures: string[] = [];
  const waiting = [...names];
  const lane = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      for await (const { name, result, failure } of of(next)) {
        if (result) rows.push({ name, ...result });
        else failures.push(`${name}: ${failure}`);
        context.keep({ rows, failures });
      }
    }
  };
  const lanes = Math.min(names.length, availableCores().count, MOST_TOGETHER);
  await Promise.all(Array.from({ length: lanes }, lane));
  return { rows, failures };
}
