/** The newest copies of the workers' state in the memory of the hosts, and what it takes to go on from them. */

import { manifestText, type SavedTensor } from '@sluice/checkpoint';
import type { MemoryRequest, RunConfig } from '@sluice/train';
import type { Host } from '../fleet/host.ts';
import type { Placement } from '../fleet/placement.ts';
import { isUnwritable } from './insist.ts';
import type { CoordinatorState } from './state.ts';
import type { AfterStep } from './trainingRun.ts';
import { isDue } from './trainRun.ts';
import { agreed } from './workers.ts';

export interface MemoryCopies {
  readonly step: number;
  readonly state: CoordinatorState;
  readonly manifest: string;
  /** For each shard, the hosts that have it. */
  readonly holders: readonly (readonly Host[])[];
}

/** Steps between copies; `affordable`: as often as they take a twentieth of the time. */
export type CopyInterval = number | 'affordable';

/** As configured; else what is affordable where a host can be lost and the run goes on. */
export function copyInterval({ faults }: Pick<RunConfig, 'faults'>, hosts: number): CopyInterval {
  if (faults.policy === 'stop') return 0;
  return faults.bufferEverySteps ?? (hosts > 1 ? 'affordable' : 0);
}

/** Time between copies for the time that one takes. */
const AFFORDABLE = 19;

/**
 * Keeps copies after steps. Where a host's memory takes none, that is said once, and the run goes on without.
 * @param options.kept told of copies that are whole
 */
export function copiesAfterStep(options: {
  readonly everySteps: CopyInterval;
  readonly placements: readonly Placement[];
  /** Of a state of the workers. */
  readonly tensors: (worker: Readonly<Record<string, unknown>>) => SavedTensor[];
  /** What they are copies of, as a checkpoint's manifest has it. */
  readonly of: {
    readonly config: unknown;
    readonly configHash: string;
    readonly datasetHash: string;
  };
  readonly state: CoordinatorState;
  /** May do something about them until the next are due, which replace the last but one. */
  readonly kept: (copies: MemoryCopies) => Promise<void> | void;
  readonly warn: (text: string) => void;
  /** A clock, ms. */
  readonly now?: () => number;
}): AfterStep {
  const { placements, tensors, state, now = () => performance.now() } = options;
  const { datasetHash, ...configured } = options.of;
  let { everySteps } = options;
  const copies = otherHosts(placements);
  let [ended, tookMs] = [now(), 0];
  let settled: Promise<void> | void;
  const isTime = (step: number) =>
    everySteps === 'affordable' ? now() - ended >= AFFORDABLE * tookMs : isDue(everySteps, step);
  return async ({ workers }) => {
    const { step } = state;
    if (!isTime(step)) return;
    await settled;
    const begun = now();
    try {
      const answers = await workers.call('copy', { step, copies, writer: workers.id ?? 'local' });
      const { state: worker } = agreed(`the copies of step ${step}`, answers, ['state']);
      const copied = structuredClone(state);
      settled = options.kept({
        step,
        state: copied,
        holders: answers.map((_, rank) => holdersOf(placements, [rank, copies[rank]!])),
        manifest: manifestText({
          ...{ step, tensors: tensors(worker), shards: answers.map(({ shard }) => shard), ...configured },
          ...{ state: { coordinator: copied, worker, datasetHash }, probe: {} },
        }),
      });
      ended = now();
      tookMs = ended - begun;
    } catch (error) {
      if (!isUnwritable(error)) throw error;
      everySteps = 0;
      options.warn(`no copies are kept in memory any more: ${error.message}`);
    }
  };
}

/**
 * Whether every shard is on one of these hosts.
 * @param hosts those that have workers, who alone move copies
 */
export function isWholeOn({ holders }: MemoryCopies, hosts: readonly Host[]): boolean {
  return holders.every((those) => those.some((host) => hosts.includes(host)));
}

/** What new workers need to go on from copies: where each shard is, and who lacks it. */
export function memoryRequest(
  { step, manifest, holders }: MemoryCopies,
  placements: readonly Placement[],
): MemoryRequest {
  const moves = placements.flatMap(({ host, ranks }) =>
    holders.flatMap((those, shard) => {
      if (those.includes(host)) return [];
      const source = placements.find((placement) => those.includes(placement.host));
      return [{ shard, from: source!.ranks[0]!, to: ranks[0]! }];
    }),
  );
  return { step, manifest, moves };
}

/** For each rank, one of the next host that keeps a copy of its part; −1 where there is no other host. */
function otherHosts(placements: readonly Placement[]): number[] {
  return placements.flatMap(({ ranks }, i) => {
    if (placements.length < 2) return ranks.map(() => -1);
    const next = placements[(i + 1) % placements.length]!.ranks;
    return ranks.map((_, index) => next[index % next.length]!);
  });
}

function holdersOf(placements: readonly Placement[], ranks: readonly number[]): Host[] {
  return placements.filter((one) => ranks.some((rank) => one.ranks.includes(rank))).map(({ host }) => host);
}
