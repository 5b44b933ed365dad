/** The hosts of a run, which may come and go while it goes on. */

import type { CurveKeys, Protection } from '@sluice/collectives';
import { type Desk, type DeskAnswers, openLocalDesk } from './desk.ts';
import type { Host } from './host.ts';
import { localHost } from './localHost.ts';

/** An agent as people are told of it. */
export interface AgentReport {
  readonly name: string;
  readonly address: string;
  readonly cores: number;
  /** Number of its process. */
  readonly agent: number;
  /** Since its last sign of life, ms. */
  readonly heardAgoMs: number;
}

export interface FleetTeller {
  line(text: string): void;
  /** What is waited for; undefined: nothing. */
  status(text: string | undefined): void;
}

export interface FleetNetwork {
  /** Number by which all hosts reach this machine. */
  readonly address: string;
  readonly curve: CurveKeys;
  /** Of what workers send each other. */
  readonly protection: Protection;
}

export interface Fleet {
  /** Whether this machine is its only host. */
  readonly isHere: boolean;
  /** How hosts reach each other; undefined where the run has only this machine. */
  readonly network: FleetNetwork | undefined;
  /** Whether its hosts do not see the run's directory and the corpora: what they need and save goes through their agents. */
  readonly collects: boolean;
  /** The hosts that are there, in the order of their ranks. */
  hosts(): readonly Host[];
  /**
   * Resolves once the hosts are there that are to be, or those that came within the time for it.
   * @param isRestart whether a fault has just ended the workers: those that live need not wait as long as at the beginning
   * @param isStopped whether nobody is to be waited for any more
   * @throws SLUICE_E_HOSTS_TOO_FEW when none is there; SLUICE_E_INTERRUPTED when the run is to stop
   */
  assemble(isRestart: boolean, isStopped: () => boolean): Promise<readonly Host[]>;
  /**
   * Does for some minutes without as few hosts as it takes for no two to be left that do not reach each other, if any are left then.
   * @param apart names of hosts, pair by pair; of one host twice, whose own workers do not reach each other
   * @returns the names of those that are left out
   */
  leaveOut(apart: readonly (readonly [string, string])[]): readonly string[];
  /** Whether hosts have come that workers are not on, though there is work for them. */
  hasNewcomers(): boolean;
  /**
   * Tells once when somebody on another host wants the run saved and stopped.
   * @returns ends the telling
   */
  onStop(listener: (reason: string) => void): () => void;
  /** Names of the hosts that are to come, or how many they are, in words. */
  missing(): readonly string[];
  /**
   * Hands what is to be told of hosts to whoever draws the console, so that it does not tear it.
   * @returns ends it: lines go where they went before
   */
  tellBy(teller: FleetTeller): () => void;
  /**
   * Places nothing on a host any more.
   * @returns whether there are others; where there are none, it stays
   */
  distrust(host: string): boolean;
  /** The agents of its hosts; none where the run has only this machine. */
  agents(): AgentReport[];
  /** Lets the user's other processes ask about the run. @throws coded errors where nothing can be listened on */
  openDesk(answers: DeskAnswers): Promise<Desk>;
}

/** @param entry program of a worker; the trainer's own when left out */
export function localFleet(entry?: string): Fleet {
  const hosts = [localHost(entry)];
  return {
    isHere: true,
    network: undefined,
    collects: false,
    hosts: () => hosts,
    assemble: async () => hosts,
    leaveOut: () => [],
    hasNewcomers: () => false,
    onStop: () => () => {},
    missing: () => [],
    tellBy: () => () => {},
    distrust: () => false,
    agents: () => [],
    openDesk: openLocalDesk,
  };
}
