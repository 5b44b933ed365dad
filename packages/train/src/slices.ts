/**
 * How the stages of a flat buffer are cut among the workers that hold the same parameters: each gets one slice of every stage,
 * to sum, optimize and save. Where the cuts lie changes no bit of any result, only how evenly the work is spread.
 */

import type { ElementRange } from '@sluice/collectives';

/** What one worker is to own whole: a block of a tensor, or a matrix. Units of a stage follow each other in memory. */
export interface Unit {
  /** Element of the flat buffer that it begins at. */
  readonly start: number;
  /** What its update takes, in any unit of work. */
  readonly cost: number;
}

interface StageUnits {
  readonly begin: number;
  readonly end: number;
  /** Ascending; the first begins where the stage does. */
  readonly units: readonly Unit[];
}

/**
 * Cuts every stage between units into one slice for each of `size` workers, as even as may be, and hands the more costly ones
 * of a stage to those who have the least to do so far.
 * @returns for each stage, the workers' slices
 */
export function dealOut(stages: readonly StageUnits[], size: number): ElementRange[][] {
  const loads = new Array<number>(size).fill(0);
  return stages.map((stage) => {
    const parts = cutEvenly(stage, size);
    const largestFirst = [...parts.keys()].sort((a, b) => parts[b]!.cost - parts[a]!.cost || a - b);
    const idlestFirst = [...loads.keys()].sort((a, b) => loads[a]! - loads[b]! || a - b);
    const slices = new Array<ElementRange>(size);
    for (const [place, part] of largestFirst.entries()) {
      const { start, end, cost } = parts[part]!;
      const worker = idlestFirst[place]!;
      slices[worker] = { start, end };
      loads[worker]! += cost;
    }
    return slices;
  });
}

/** Consecutive parts; each ends at the border of units that is nearest to its share of the cost. */
function cutEvenly({ begin, end, units }: StageUnits, size: number): (ElementRange & { cost: number })[] {
  let total = 0;
  const borders = units.map(({ start, cost }) => {
    total += cost;
    return { at: start, before: total - cost };
  });
  borders.push({ at: end, before: total });
  let next = 0;
  const cuts = Array.from({ length: size + 1 }, (_, part) => {
    const share = (total * part) / size;
    while (next + 1 < borders.length && isNearer(borders[next + 1]!.before, borders[next]!.before, share))
      next++;
    return borders[next]!;
  });
  cuts[0] = { at: begin, before: 0 };
  cuts[size] = { at: end, before: total };
  return cuts.slice(1).map(({ at, before }, part) => {
    const from = cuts[part]!;
    return { start: from.at, end: at, cost: before - from.before };
  });
}

function isNearer(value: number, other: number, target: number): boolean {
  return Math.abs(value - target) < Math.abs(other - target);
}
