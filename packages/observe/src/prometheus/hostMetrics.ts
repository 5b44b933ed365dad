/** How it is with a host that takes part in a run, as Prometheus scrapes it from the host's agent. */

import { freemem, loadavg, totalmem } from 'node:os';
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { registerDisk } from './runMetrics.ts';

export interface HostMetricsOptions {
  /** What the host is called in the run. */
  readonly node: string;
  readonly directory: string;
  /** Workers that run here now. */
  readonly workers: () => number;
  /** Seconds since the coordinator was heard of; undefined before it ever was. */
  readonly heardAgo: () => number | undefined;
}

export function hostMetrics({ node, directory, workers, heardAgo }: HostMetricsOptions): Registry {
  const registry = new Registry();
  registry.setDefaultLabels({ node });
  collectDefaultMetrics({ register: registry });
  registerDisk(registry, directory);
  const gauges: readonly (readonly [string, string, () => number | undefined])[] = [
    ['sluice_agent_workers', 'Workers that run on the host.', workers],
    ['sluice_agent_coordinator_heard_seconds', 'Since the coordinator was heard of.', heardAgo],
    ['sluice_host_memory_free_bytes', 'Free memory of the host.', freemem],
    ['sluice_host_memory_size_bytes', 'Memory of the host.', totalmem],
    ['sluice_host_load', 'Load of the last minute.', () => loadavg()[0]],
  ];
  for (const [name, help, read] of gauges) {
    new Gauge({
      ...{ name, help, registers: [registry] },
      collect() {
        this.set(read() ?? Number.NaN);
      },
    });
  }
  return registry;
}
