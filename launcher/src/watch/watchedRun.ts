/** A run as the page is told of it: from its journal, its configuration, its lock and its checkpoints, read again when they change. */

import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { diffConfigs } from '@sluice/core';
import { countParameters } from '@sluice/model';
import type { ConfigDifferences, ReportFacts, RunBrief, RunStatus, WatchedRun } from '@sluice/observe';
import type { RunConfig } from '@sluice/train';
import { type JournalEntry, readJournal } from '../run/journal.ts';
import { readLiveStatus } from '../run/liveStatus.ts';
import { lockOwner } from '../run/lock.ts';
import { isSeenFromHere } from '../run/processIdentity.ts';
import { describeCheckpoints, journalFacts, type KnownCheckpoints } from '../run/reportFacts.ts';
import { givenUpSteps } from '../run/rollbacks.ts';
import { loadRunConfig } from '../run/runConfig.ts';
import { type RunDirectory, runDirectory } from '../run/runDirectory.ts';
import { configInRun } from '../run/runPaths.ts';
import { spikeHistory } from '../run/spikeHistory.ts';
import type { FoundRun } from './findRuns.ts';

/** How long an owner on another machine may be without a sign of life, ms. */
const SILENCE_MS = 20_000;

interface JournalView {
  readonly key: string;
  readonly entries: readonly JournalEntry[];
  readonly brief: Omit<RunBrief, 'status' | 'steps'>;
  readonly facts: ReturnType<typeof journalFacts>;
}

interface ConfigView {
  readonly key: string;
  readonly config: RunConfig | undefined;
  readonly parameters: { readonly total: number; readonly active: number } | undefined;
}

export class WatchedRunFiles implements WatchedRun {
  readonly id: string;
  readonly path: string;
  readonly name: string;
  readonly group: string | undefined;
  readonly #run: RunDirectory;
  readonly #checkpoints: KnownCheckpoints = new Map();
  #journal: JournalView | undefined;
  #config: ConfigView | undefined;
  #touched: { readonly key: string; readonly seenAt: number } | undefined;

  constructor({ path, name, group }: FoundRun) {
    this.id = createHash('sha256').update(path).digest('hex').slice(0, 12);
    this.path = path;
    this.name = name;
    this.group = group;
    this.#run = runDirectory(path);
  }

  brief(): RunBrief {
    const { entries, brief } = this.#readJournal();
    return { ...brief, status: this.#status(entries), steps: this.#readConfig().config?.training.steps };
  }

  async facts(other?: WatchedRun): Promise<ReportFacts> {
    const { entries, facts } = this.#readJournal();
    const { config, parameters } = this.#readConfig();
    const now = readLiveStatus(this.path);
    const status = this.#status(entries);
    return {
      ...facts,
      ...{ title: this.name, status, parameters },
      config: config && configInRun(this.path, config),
      ...(now?.unigramLoss != null && { unigramLoss: now.unigramLoss }),
      checkpoints: await describeCheckpoints(this.path, entries, this.#checkpoints),
      ...(status.state === 'running' && { workers: now?.workers.map(withoutNulls) }),
      ...(other instanceof WatchedRunFiles && { differences: this.#differences(other) }),
    };
  }

  #readJournal(): JournalView {
    const key = stamp(this.#run.journal);
    if (this.#journal?.key === key) return this.#journal;
    const entries = readJournal(this.#run.journal);
    const evaluation = entries.findLast((entry) => entry.kind === 'evaluate');
    const loss = evaluation?.kind === 'evaluate' ? evaluation.loss : undefined;
    this.#journal = {
      ...{ key, entries, facts: journalFacts(entries) },
      brief: {
        validationLoss: typeof loss === 'number' ? loss : undefined,
        spikes: spikeHistory(entries).length,
        rollbacks: givenUpSteps(entries).length,
      },
    };
    return this.#journal;
  }

  #readConfig(): ConfigView {
    const key = stamp(this.#run.config);
    if (this.#config?.key === key) return this.#config;
    try {
      const config = loadRunConfig(this.#run.config, {});
      const { total, active } = countParameters(config.model);
      this.#config = { key, config, parameters: { total, active } };
    } catch {
      // One that another version wrote, say: the run is shown without.
      this.#config = { key, config: undefined, parameters: undefined };
    }
    return this.#config;
  }

  #status(entries: readonly JournalEntry[]): RunStatus {
    const owner = lockOwner(this.#run.lock);
    if (owner?.alive && (isSeenFromHere(owner) || this.#isTouched())) {
      return { state: 'running', text: `running: process ${owner.pid} on ${owner.host}` };
    }
    const last = entries.findLast(({ kind }) => kind === 'stop' || kind === 'resume' || kind === 'restart');
    if (owner !== undefined || last?.kind !== 'stop') {
      return { state: 'killed', text: 'it ended without a word; `sluice resume` goes on' };
    }
    const { reason } = last;
    if (reason === 'finished') return { state: 'finished', text: 'finished' };
    if (reason === 'signal' || reason === 'lastStep') {
      return {
        state: 'stopped',
        text: reason === 'signal' ? 'stopped by a signal' : 'stopped after the step asked for',
      };
    }
    return { state: 'failed', text: last.message ?? `stopped: ${reason}` };
  }

  /** Whether an owner on another machine touches its lock: seen here, since its clock is its own. */
  #isTouched(): boolean {
    const key = stamp(this.#run.lock);
    if (this.#touched?.key !== key) this.#touched = { key, seenAt: performance.now() };
    return performance.now() - this.#touched.seenAt < SILENCE_MS;
  }

  #differences(other: WatchedRunFiles): ConfigDifferences {
    const [own, others] = [this, other].map((run) => run.#readConfig().config);
    const rows =
      own && others
        ? diffConfigs(configInRun(this.path, own), configInRun(other.path, others)).map(
            ({ key, before, after }) => ({
              ...{ key, own: before, others: after },
            }),
          )
        : [];
    return { other: other.name, rows };
  }
}

type LiveWorker = NonNullable<ReturnType<typeof readLiveStatus>>['workers'][number];

function withoutNulls({ pid, own, waiting, heardAgo, ...worker }: LiveWorker) {
  return {
    ...worker,
    ...{ pid: pid ?? undefined, own: own ?? undefined },
    ...{ waiting: waiting ?? undefined, heardAgo: heardAgo ?? undefined },
  };
}

/** What a file is told from its next state by. */
function stamp(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false });
  return `${stat?.ino}:${stat?.size}:${stat?.mtimeMs}`;
}
