/** What is sent to a page while it is open: of all runs, or of one. */

import { setTimeout as delay } from 'node:timers/promises';
import { groupDigits } from '../format.ts';
import type { StepRange } from '../report/data.ts';
import { withinRun } from '../report/report.ts';
import type { Catalog, WatchedRun } from './catalog.ts';
import { AXES, type AxisName, compareRuns, MEASURES, type MeasureName } from './compare.ts';
import type { EventStream } from './eventStream.ts';
import type { Followers } from './followers.ts';
import { type Parts, runParts, SentParts } from './parts.ts';
import type { RunFollower } from './runFollower.ts';
import type { RunList } from './runList.ts';

/** At least so long from one sending to the next, ms; longer where making it takes long. */
const PAUSE_MS = 1000;
/** What is not in the metrics is looked at that often, ms. */
const FACTS_MS = 2000;

/** Steps that curves of several runs are smoothed over. */
const USUAL_SMOOTHING = 20;

/** Runs over each other. */
const MOST_COMPARED = 24;

export interface WatchedSite {
  readonly catalog: Catalog;
  readonly followers: Followers;
  readonly list: RunList;
}

/** Sends what `make` gives, as often as it may have changed, until the page is gone. */
async function keepSending(
  stream: EventStream,
  make: () => Promise<Parts>,
  wait: (limitMs: number) => Promise<unknown>,
): Promise<void> {
  const sent = new SentParts();
  while (stream.isOpen) {
    const started = performance.now();
    const changes = sent.changes(await make());
    if (changes !== undefined) stream.send('parts', changes);
    await stream.drained();
    // A page must not keep the server busy: nine tenths of the time are for others.
    await delay(Math.max(PAUSE_MS, 9 * (performance.now() - started)), undefined, { ref: false });
    await wait(FACTS_MS);
  }
}

/** One run's page. */
export async function streamRun(
  stream: EventStream,
  { catalog, followers }: WatchedSite,
  run: WatchedRun,
  query: URLSearchParams,
): Promise<void> {
  const { follower, release } = followers.use(run.path);
  const range = rangeOf(query);
  const factsNow = async () =>
    withinRun(run.path, await run.facts(catalog.runs().find(({ id }) => id === query.get('against'))));
  // While the log is read for the first time.
  let early: ReturnType<typeof factsNow> | undefined = factsNow();
  early.catch(() => {});
  try {
    await follower.ready;
    let version = -1;
    await keepSending(
      stream,
      async () => {
        version = follower.version;
        const facts = await (early ?? factsNow());
        early = undefined;
        const notices = [...readingNotice(follower), ...(facts.notices ?? [])];
        return runParts({ ...facts, notices }, await follower.describe({ ...facts, notices }, range));
      },
      (limitMs) => follower.changed(version, limitMs),
    );
  } finally {
    release();
  }
}

function rangeOf(query: URLSearchParams): StepRange | undefined {
  const [from, to] = [Number(query.get('from')), Number(query.get('to'))];
  return Number.isSafeInteger(from) && Number.isSafeInteger(to) && from > 0 && to > from
    ? { from, to }
    : undefined;
}

function readingNotice({ progress, columns }: RunFollower): string[] {
  if (progress === 1) return [];
  return [
    `A first picture of ${groupDigits(columns.length)} steps here and there; all are being read (${Math.round(100 * progress)} %).`,
  ];
}

/** The list of runs, and the curves of those that are chosen. */
export async function streamOverview(
  stream: EventStream,
  { catalog, followers, list }: WatchedSite,
  query: URLSearchParams,
): Promise<void> {
  const chosen = (query.get('runs') ?? '').split(',').slice(0, MOST_COMPARED);
  const used = new Map<string, { readonly follower: RunFollower; readonly release: () => void }>();
  const request = {
    measure: known(query.get('measure'), MEASURES, 'loss') as MeasureName,
    axis: known(query.get('axis'), AXES, 'step') as AxisName,
    smoothing: Math.min(
      100_000,
      Math.max(0, Math.floor(Number(query.get('smoothing') ?? USUAL_SMOOTHING) || 0)),
    ),
    base: query.get('base') ?? undefined,
  };
  try {
    await keepSending(
      stream,
      async () => {
        const runs = catalog.runs();
        const listed = await list.list(runs);
        // In the order in which they were chosen, which their colours follow.
        const compared = chosen.flatMap((id) => runs.find((run) => run.id === id) ?? []);
        for (const { path } of compared) if (!used.has(path)) used.set(path, followers.use(path));
        await Promise.all([...used.values()].map(({ follower }) => follower.ready));
        const columns = compared.map(({ id, name, path }) => ({
          id,
          name,
          columns: used.get(path)!.follower.columns,
        }));
        return {
          runs: listed,
          experiments: catalog.experiments().map(withoutPath),
          comparison: compareRuns(columns, request),
        };
      },
      () => Promise.resolve(),
    );
  } finally {
    for (const { release } of used.values()) release();
  }
}

function withoutPath({ report, ...shown }: ReturnType<Catalog['experiments']>[number]): object {
  return { ...shown, hasReport: report !== undefined };
}

function known(name: string | null, names: object, otherwise: string): string {
  return name !== null && Object.hasOwn(names, name) ? name : otherwise;
}
