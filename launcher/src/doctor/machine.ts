/** Node, npm, cores, memory, shared memory. */

import { existsSync, statfsSync } from 'node:fs';
import { cpus } from 'node:os';
import { availableCores, availableMemory } from '@sluice/core';
import { formatBytes } from '@sluice/observe';
import { type Gpu, listGpus } from '../backends/gpus.ts';
import { visibleDevices } from '../coordinator/devices.ts';
import { programOutput } from '../run/programOutput.ts';
import type { Finding } from './finding.ts';

const OLDEST_NODE = [20, 19] as const;
const LITTLE_MEMORY = 2 ** 31;
const LITTLE_SHARED_MEMORY = 2 ** 26;

export function examineNode(version = process.versions.node): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const ok = major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1]);
  return {
    name: 'node',
    found: version,
    ok,
    ...(!ok && { mend: `install Node.js ${OLDEST_NODE.join('.')} or newer` }),
    values: { version },
  };
}

export function examineNpm(): Finding {
  const version = programOutput('npm', ['--version']);
  if (version !== undefined) return { name: 'npm', found: version, ok: true, values: { version } };
  const mend = 'install npm; it usually comes with Node.js';
  return { name: 'npm', found: 'none', ok: false, mend, values: { version: null } };
}

export function examineMachine(): Finding[] {
  const { count, allowed, quota } = availableCores();
  const limited =
    quota === undefined || quota >= allowed ? '' : `, of ${allowed}: the control group’s quota is ${quota}`;
  const cpu = cpus()[0]?.model.trim() ?? 'unknown';
  const memory = availableMemory();
  const enough = memory >= LITTLE_MEMORY;
  return [
    {
      name: 'cores',
      found: `${count} (${cpu}${limited})`,
      ok: true,
      values: { count, allowed, quota: quota ?? null, cpu },
    },
    {
      name: 'memory',
      found: formatBytes(memory),
      ok: enough,
      ...(!enough && { mend: 'less than 2 GiB: train small models, on few workers' }),
      values: { bytes: memory },
    },
  ];
}

/** Of each kind how many there are, and how many of all may be used. */
export function examineGpus(
  gpus: readonly Gpu[] = listGpus(),
  variable = process.env.CUDA_VISIBLE_DEVICES,
): Finding {
  const counts = new Map<string, number>();
  for (const { name, memoryBytes } of gpus) {
    const kind = `${name} (${formatBytes(memoryBytes)})`;
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  const kinds = [...counts].map(([kind, count]) => `${count} × ${kind}`);
  const visible = visibleDevices(variable, gpus).length;
  const shown = variable === undefined ? '' : `; CUDA_VISIBLE_DEVICES shows ${visible}`;
  return {
    name: 'gpus',
    found: gpus.length === 0 ? 'none' : `${kinds.join(', ')}${shown}`,
    ok: true,
    values: { devices: gpus, visible },
  };
}

/** Shared memory holds the buffers that the collectives send from. */
export function examineSharedMemory(path = '/dev/shm'): Finding {
  if (process.platform !== 'linux' || !existsSync(path)) {
    return { name: 'shared memory', found: `no ${path}; not needed here`, ok: true, values: { path: null } };
  }
  const { bavail, bsize } = statfsSync(path);
  const free = bavail * bsize;
  const ok = free >= LITTLE_SHARED_MEMORY;
  return {
    name: 'shared memory',
    found: `${formatBytes(free)} free in ${path}`,
    ok,
    ...(!ok && { mend: `make ${path} larger (in a container: --shm-size=1g)` }),
    values: { path, freeBytes: free },
  };
}
