/** Runs of real worker processes, which do what `worker.ts` lets be asked of them. */

import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import {
  ControlServer,
  type ListenOptions,
  type TransportKind,
  type WorkerLimits,
} from '@sluice/collectives';

const ENTRY = fileURLToPath(new URL('../worker.ts', import.meta.url));

/** The shared ring mapped by the C++ core, the ring through the system, frames, and several of them in one group. */
export const WAYS: readonly {
  readonly name: string;
  readonly transport: TransportKind;
  readonly env: NodeJS.ProcessEnv;
  /** Ranks of each host, of up to four. */
  readonly hosts: readonly (readonly number[])[];
}[] = [
  { name: 'ipc', transport: 'ipc', env: {}, hosts: [] },
  { name: 'ipc without the C++ core', transport: 'ipc', env: { SLUICE_NATIVE: 'off' }, hosts: [] },
  { name: 'tcp', transport: 'tcp', env: {}, hosts: [] },
  { name: 'tcp between hosts of two and one', transport: 'tcp', env: {}, hosts: [[0, 1], [2], [3]] },
];

/** Options of a run that goes one of these ways. */
export function wayOptions({ transport, hosts }: (typeof WAYS)[number], worldSize: number): ListenOptions {
  const endpoint = transport === 'tcp' ? { endpoint: 'tcp://127.0.0.1:0' } : {};
  return { worldSize, transport, hosts, ...endpoint };
}

export interface Run {
  readonly server: ControlServer;
  readonly workers: ChildProcess[];
  readonly exits: Promise<number | NodeJS.Signals | null>[];
  end(): Promise<void>;
}

export async function startRun(
  options: ListenOptions,
  limits: Partial<WorkerLimits> = {},
  {
    markLost = true,
    env = {},
    remote = false,
    isUnheard = false,
    addresses = [],
  }: {
    markLost?: boolean;
    env?: NodeJS.ProcessEnv;
    /** Whether workers take the coordinator for one of another machine, whose process they cannot watch. */
    remote?: boolean;
    /** Whether nobody reads what workers write to their standard error, as where the process that did is gone. */
    isUnheard?: boolean;
    /** Numbers by which workers are to be reached, in order of ranks. */
    addresses?: readonly string[];
  } = {},
): Promise<Run> {
  const server = await ControlServer.listen(options);
  const workers = Array.from({ length: options.worldSize }, () =>
    spawn(process.execPath, [ENTRY], {
      env: {
        ...process.env,
        ...env,
        TEST_LIMITS: JSON.stringify(limits),
      },
      stdio: ['ignore', 'inherit', isUnheard ? 'pipe' : 'ignore', 'ipc'],
    }),
  );
  for (const [rank, worker] of workers.entries()) {
    worker.stderr?.destroy();
    const { parentPid, ...invitation } = server.invitation(rank);
    const host = addresses[rank];
    worker.send({ ...invitation, ...(!remote && { parentPid }), ...(host !== undefined && { host }) });
  }
  const exits = workers.map(
    (worker, rank) =>
      new Promise<number | NodeJS.Signals | null>((resolve) => {
        worker.once('exit', (code, signal) => {
          if (markLost) server.markLost(rank, `it ended with ${signal ?? `code ${code}`}`);
          resolve(signal ?? code);
        });
      }),
  );
  return {
    server,
    workers,
    exits,
    end: async () => {
      for (const worker of workers) worker.kill('SIGKILL');
      await Promise.all(exits);
      await server.close();
    },
  };
}
