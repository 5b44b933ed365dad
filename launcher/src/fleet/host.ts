/** A machine of a run as the coordinator sees it: it starts worker processes, and tells how they end. */

import type { Invitation } from '@sluice/collectives';
import type { HostFiles } from './hostFiles.ts';

/** A GPU that workers of a host may be given. */
export interface HostDevice {
  /** As CUDA_VISIBLE_DEVICES names it. */
  readonly name: string;
  /** Undefined where it is not known. */
  readonly memoryBytes?: number | undefined;
}

export interface Host {
  /** What people call it. */
  readonly name: string;
  /** Number by which workers of other hosts reach its own; undefined where all of the run are on this machine. */
  readonly address: string | undefined;
  /** Cores that may be used. */
  readonly cores: number;
  /** Memory that its processes may take, bytes; undefined where it is not known. */
  readonly memoryBytes?: number;
  /** GPUs that may be used. */
  readonly devices: readonly HostDevice[];
  /** Workers that it takes; undefined: any number. */
  readonly slots: number | undefined;
  /** Its files, where it is not this machine. */
  readonly files?: HostFiles;
  /** Starts a worker; that it could not be started shows in how it ended. */
  startWorker(order: WorkerOrder): StartedWorker;
}

export interface WorkerOrder {
  readonly rank: number;
  readonly invitation: Omit<Invitation, 'parentPid'>;
  readonly environment: Readonly<Record<string, string>>;
  /** Receives what the worker prints, line by line. */
  readonly log: (line: string) => void;
}

export interface StartedWorker {
  /** Its number on its host; undefined while it is not known. */
  readonly pid: number | undefined;
  /** Resolves when the process has ended and all that it printed was told. */
  readonly ended: Promise<WorkerEnd>;
  /** Ends it by force. */
  kill(): void;
}

export interface WorkerEnd {
  /** In words: `exit code 3`, `signal SIGKILL`. */
  readonly how: string;
  readonly exitCode: number | null;
  readonly signal: string | null;
}
