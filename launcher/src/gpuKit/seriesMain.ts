/** The process of a step's cases (`series.ts`): each is said to begin, and what came of it. */

import type { Scale } from '@sluice/engine/cuda';
import { KIT_STEPS } from './catalog.ts';
import type { SeriesLine } from './series.ts';
import type { OpenSeries } from './step.ts';

/** @returns the exit code of a series' process */
export async function seriesMain([step, scale, left]: readonly string[]): Promise<number> {
  const say = (line: SeriesLine<unknown, unknown>) => process.stdout.write(`${JSON.stringify(line)}\n`);
  let opened: Awaited<ReturnType<OpenSeries>>;
  try {
    const { openSeries } = await KIT_STEPS.find(({ name }) => name === step)!.load();
    opened = await openSeries!(scale as Scale);
  } catch (error) {
    say({ unfit: textOf(error) });
    return 1;
  }
  const { names, facts, run } = opened;
  say({ names, facts });
  for (const name of left === undefined ? names : (JSON.parse(left) as string[])) {
    say({ begins: name });
    try {
      say({ name, result: await run(name) });
    } catch (error) {
      say({ name, failure: textOf(error) });
      // What a kernel has left of the card is unfit for all that this process would ask for.
      return 1;
    }
  }
  return 0;
}

function textOf(error: unknown): string {
  const { code, message } = error as { code?: string; message: string };
  return code ? `${code}: ${message}` : message;
}
