/** What a run is doing at the moment, on which hosts and in which processes, for `sluice ps` and for whoever waits for its end. */

import { hostname } from 'node:os';
import { SluiceError } from '@sluice/core';
import { z } from 'zod';
import { type Desk, STOPPED_BY_COMMAND } from '../fleet/desk.ts';
import type { Fleet } from '../fleet/fleet.ts';
import { removeContact, writeContact } from '../run/contact.ts';
import { ownIdentity } from '../run/processIdentity.ts';
import type { RunDirectory } from '../run/runDirectory.ts';
import { SavesReport } from './savesSeen.ts';

const count = z.int().min(0);

const WorkerReport = z.object({
  rank: count,
  host: z.string(),
  /** Null while it is not known. */
  pid: count.nullable(),
  /** In its own words, with the last heartbeat. */
  doing: z.string(),
});
export type WorkerReport = z.infer<typeof WorkerReport>;

/** The answer of a coordinator that is asked. */
export const RunReport = z.object({
  run: z.string(),
  /** Token that its processes carry in their environment. */
  token: z.string(),
  coordinator: z.object({ host: z.string(), pid: count, runningMs: z.number() }),
  /** What the workers carry out together, in words. */
  doing: z.string(),
  /** Last step that was taken. */
  step: count,
  steps: count,
  /** Step of the newest checkpoint; null when there is none. */
  savedStep: count.nullable(),
  /** Left out by programs of older versions. */
  saves: SavesReport.optional(),
  /** Who asked for the stop that is under way; null when nobody did. */
  stopping: z.string().nullable(),
  restarts: count,
  lastFault: z.object({ agoMs: z.number(), message: z.string() }).nullable(),
  /** None where the run has only the coordinator's machine. */
  hosts: z.array(
    z.object({
      name: z.string(),
      address: z.string(),
      cores: z.number(),
      agent: count,
      heardAgoMs: z.number(),
    }),
  ),
  workers: z.array(WorkerReport),
});
export type RunReport = z.infer<typeof RunReport>;

/** Workers as they are told of. */
export interface TeamView {
  readonly task: string;
  /** What people call a worker, and where it is. */
  placeOf(rank: number): { readonly name: string; readonly host: string };
  /** Those whose processes have not ended. */
  report(): WorkerReport[];
}

export interface BoardSources {
  readonly run: RunDirectory;
  readonly token: string;
  readonly fleet: Fleet;
  readonly steps: number;
  readonly step: () => number;
  readonly savedStep: () => number | undefined;
  readonly saves: () => SavesReport;
}

export class RunBoard {
  readonly #sources: BoardSources;
  readonly #startedAt = performance.now();
  #team: TeamView | undefined;
  #stopping: string | undefined;
  #restarts = 0;
  #lastFault: { readonly at: number; readonly message: string } | undefined;

  constructor(sources: BoardSources) {
    this.#sources = sources;
  }

  /** @param team undefined while there are no workers */
  watch(team: TeamView | undefined): void {
    this.#team = team;
  }

  placeOf(rank: number): { readonly name: string; readonly host: string } {
    return this.#team?.placeOf(rank) ?? { name: `worker ${rank}`, host: 'unknown' };
  }

  /** How often workers were started anew, and what ended them last. */
  get faults(): { restarts: number; lastFault: string | undefined } {
    return { restarts: this.#restarts, lastFault: this.#lastFault?.message };
  }

  /** Whether a person asked for the stop; a scheduler, which wants its machine back, starts the run again later. */
  get isStopFinal(): boolean {
    return this.#stopping === STOPPED_BY_COMMAND;
  }

  noteStop(reason: string): void {
    this.#stopping ??= reason;
  }

  noteFault(message: string): void {
    this.#restarts++;
    this.#lastFault = { at: performance.now(), message };
  }

  report(): RunReport {
    const { run, token, fleet, steps, step, savedStep, saves } = this.#sources;
    const fault = this.#lastFault;
    return {
      ...{ run: run.path, token, steps, step: step(), savedStep: savedStep() ?? null, saves: saves() },
      coordinator: { host: hostname(), pid: process.pid, runningMs: performance.now() - this.#startedAt },
      doing: this.#team?.task ?? 'bringing hosts and workers together',
      stopping: this.#stopping ?? null,
      restarts: this.#restarts,
      lastFault: fault === undefined ? null : { agoMs: performance.now() - fault.at, message: fault.message },
      hosts: fleet.agents(),
      workers: this.#team?.report() ?? [],
    };
  }

  /**
   * Lets the user's other processes ask, and finds them a way here by a file in the run's directory. Where that cannot be
   * done, the run goes on without.
   * @returns ends it
   */
  async open(stop: () => void, warn: (text: string) => void): Promise<() => void> {
    const { run, token, fleet } = this.#sources;
    let desk: Desk | undefined;
    const close = () => {
      removeContact(run.contact);
      desk?.close();
    };
    try {
      desk = await fleet.openDesk({
        report: () => this.report(),
        stop: (reason) => {
          this.noteStop(reason);
          stop();
        },
      });
      const { endpoints, curve } = desk;
      writeContact(run.contact, {
        run: token,
        ...ownIdentity(),
        endpoints: [...endpoints],
        ...(curve && { curve }),
      });
    } catch (error) {
      close();
      if (!(error instanceof SluiceError)) throw error;
      warn(`${error.message} Training goes on; \`sluice ps\` and \`sluice stop\` cannot ask it.`);
    }
    return close;
  }
}
