/** A call to the workers that takes suspiciously long: who keeps the others waiting. */

import { awakeTimeout } from '@sluice/collectives/control';

/** A worker that has not answered. */
export interface Waiting {
  readonly rank: number;
  /** As people are told of it. */
  readonly name: string;
  readonly host: string;
  readonly pid: number | undefined;
  /** What it said last that it was doing. */
  readonly doing: string;
  /** For how long it has said just that, ms. */
  readonly unchangedMs: number;
  /** For how long no heartbeat has come, ms. */
  readonly silentMs: number;
}

export interface Stall {
  /** What is being carried out, in words. */
  readonly task: string;
  readonly seconds: number;
  /** Those that have not come to where the others wait for them; all, where nobody waits in an operation. */
  readonly missing: readonly Waiting[];
  readonly others: readonly Waiting[];
  /** Folder with what each worker told of itself, a file each; none where it could not be written. */
  readonly states?: string | undefined;
}

/** A call is told of after this share of its limit, and each time that it has gone by again. */
const SHARE = 0.2;
/** Calls that have taken long before are given more time: so many times what they took, … */
const USUAL_TIMES = 3;
/** … but no more than this share of the limit. */
const MOST_SHARE = 0.8;

/** When a call of a limit is told of, ms, where others like it took `usualMs`. */
export function stallAfterMs(limitMs: number, usualMs = 0): number {
  return Math.min(MOST_SHARE * limitMs, Math.max(SHARE * limitMs, USUAL_TIMES * usualMs));
}

/**
 * Calls `tell` with the seconds gone by, after `firstMs` of this process's time awake and from then on after the same time again.
 * @returns ends it
 */
export function watchStall(firstMs: number, tell: (seconds: number) => void): () => void {
  let end = () => {};
  const wait = (passedMs: number) => {
    end = awakeTimeout(firstMs, () => {
      tell((passedMs + firstMs) / 1000);
      wait(passedMs + firstMs);
    });
  };
  wait(0);
  return () => end();
}

/** The operation that a worker is in, as its heartbeats tell it. */
function operationOf({ doing }: Waiting): string | undefined {
  return /; under way: (.+)$/.exec(doing)?.[1];
}

/** A worker without a heartbeat for so long is stopped, cut off or starved: what it said last means little, ms. */
const SILENT_MS = 5000;

/** Who keeps the others waiting, of all that have not answered. */
export function stallOf(task: string, seconds: number, waiting: readonly Waiting[]): Stall {
  const silent = waiting.filter(({ silentMs }) => silentMs > SILENT_MS);
  const outside = waiting.filter((one) => operationOf(one) === undefined);
  // All live and are in operations, but not all in the same one: those are behind who are where the fewest are.
  const missing = [silent, outside].find((some) => some.length > 0) ?? whereFewestAre(waiting);
  return { task, seconds, missing, others: waiting.filter((one) => !missing.includes(one)) };
}

function whereFewestAre(waiting: readonly Waiting[]): readonly Waiting[] {
  const places = new Map<string, Waiting[]>();
  for (const one of waiting) places.set(one.doing, [...(places.get(one.doing) ?? []), one]);
  const [first = [], ...rest] = [...places.values()];
  return rest.reduce((fewest, group) => (group.length < fewest.length ? group : fewest), first);
}

/** Workers that are told of one by one. */
const MOST_NAMES = 8;

/** In words, for the console. */
export function stallLine({ task, seconds, missing, others, states }: Stall): string {
  const shown = missing.slice(0, MOST_NAMES).map(({ name, pid, doing, unchangedMs, silentMs }) => {
    const place = pid === undefined ? 'not started' : `process ${pid}`;
    const silent = silentMs > SILENT_MS ? `no sign of life for ${Math.round(silentMs / 1000)} s; ` : '';
    return `${name} (${place}; ${silent}last: ${doing}, for ${Math.round(unchangedMs / 1000)} s)`;
  });
  const more = missing.length > MOST_NAMES ? ` and ${missing.length - MOST_NAMES} more` : '';
  const operations = [...new Set(others.flatMap((one) => operationOf(one) ?? []))];
  const waits =
    operations.length === 0
      ? ''
      : ` ${others.length} others wait for them in ${operations.slice(0, 3).join(', ')}.`;
  const kept = states === undefined ? '' : ` What each worker is doing is in ${states}.`;
  return `${task} has been going on for ${Math.round(seconds)} s. Not there yet: ${shown.join(', ')}${more}.${waits}${kept}`;
}
