/** Finds out which backends run on this machine, each in a process of its own, since a broken library may end it. */

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { BACKEND_NAMES, BACKENDS, type BackendName } from '@sluice/engine';

export interface BackendState {
  readonly name: BackendName;
  readonly purpose: string;
  readonly installed: boolean;
  readonly runs: boolean;
  /** Why it does not run, or what it cannot do. */
  readonly reason?: string;
  /** Whether it is asked for in a way that means nothing, as the reason says. */
  readonly isMistaken?: boolean;
}

/** What a backend that gives no values in the middle of a pass means for models with experts. */
const NO_READS = 'experts: each computes every token, and workers do not share them';

const PROBE_TIMEOUT_MS = 120_000;

/** The state of every backend, in the order in which they are listed. */
export function probeBackends(): Promise<BackendState[]> {
  return Promise.all(BACKEND_NAMES.map((name) => probeBackend(name)));
}

export async function probeBackend(name: BackendName): Promise<BackendState> {
  const backend = BACKENDS[name];
  const { purpose, readsSynchronously } = backend;
  const mistake = backend.mistake?.();
  if (mistake) return { name, purpose, installed: false, runs: false, reason: mistake, isMistaken: true };
  const absence = backend.absence();
  if (absence) return { name, purpose, installed: false, runs: false, reason: absence };
  const { ok, reason } = await runProbe(name);
  const remark = ok && !readsSynchronously ? NO_READS : reason;
  return { name, purpose, installed: true, runs: ok, ...(remark !== undefined && { reason: remark }) };
}

function runProbe(name: string): Promise<{ ok: boolean; reason?: string }> {
  const entry = fileURLToPath(new URL('./probeEntry.js', import.meta.url));
  return new Promise((resolve) => {
    execFile(process.execPath, [entry, name], { timeout: PROBE_TIMEOUT_MS }, (error, stdout) => {
      const line = stdout.trim().split('\n').at(-1) ?? '';
      if (line.startsWith('{')) resolve(JSON.parse(line));
      else
        resolve({
          ok: false,
          reason: `its process ended without an answer (${error?.message ?? 'no output'})`,
        });
    });
  });
}
