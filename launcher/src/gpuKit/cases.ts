/** The cases of a step, in processes of their own (`series.ts`). */

import { KIT_PROGRAM } from './kitProgram.ts';
import { type CaseEnd, inSeries } from './series.ts';
import type { KitContext } from './step.ts';

export const SERIES_FLAG = '--run-series';

/** A case may say nothing for so long, with the begin of a process, and what it compiles. */
const CASE_MS = 20_000;
/** The emulator's kernels are compiled as C++, beside whatever else the machine does. */
const EMULATED_FACTOR = 30;

/**
 * The cases of a step that has some (`openSeries`), each as it ends.
 * @param environment beside that of this process
 * @param names of those that are wanted
 * @param caseMs for how long one may say nothing
 */
export function casesOf<Facts, Result>(
  step: string,
  { scale, isEmulated, endsAtMs }: Pick<KitContext, 'scale' | 'isEmulated' | 'endsAtMs'>,
  {
    onFacts,
    environment,
    names,
    caseMs = CASE_MS * (isEmulated ? EMULATED_FACTOR : 1),
  }: {
    onFacts?: (facts: Facts) => void;
    environment?: Readonly<Record<string, string>>;
    names?: readonly string[];
    caseMs?: number;
  } = {},
): AsyncGenerator<CaseEnd<Result>> {
  return inSeries<Facts, Result>({
    words: [KIT_PROGRAM, SERIES_FLAG, step, scale],
    env: { ...process.env, ...environment },
    caseMs,
    endsAtMs,
    ...(onFacts && { onFacts }),
    ...(names && { names }),
  });
}
