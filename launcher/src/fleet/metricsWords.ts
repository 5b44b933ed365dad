/** Where Prometheus finds a run and its hosts, when `sluice launch` says it. */

/** @returns words of a command line */
export function metricsWords(port: number, host: string | undefined): string[] {
  return ['--metrics-port', String(port), ...(host === undefined ? [] : ['--metrics-host', host])];
}

/** The port of the agents: that after the run's, since one of them may be on the coordinator's machine. 0 stays a free one. */
export function agentsPort(runPort: number): number {
  return runPort === 0 ? 0 : runPort + 1;
}
