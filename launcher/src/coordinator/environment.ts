/** Threads of a worker, and the environment that makes OpenMP use them. */

export interface ThreadPlan {
  /** Threads of each worker. */
  readonly threads: number;
  /** Variables that must be set before the worker starts, since OpenMP reads them only once. */
  readonly environment: Readonly<Record<string, string>>;
}

/**
 * @param threads the configured number, 0 to share the cores out among the workers
 * @param cores logical cores of the machine
 */
export function planThreads(threads: number, workers: number, cores: number): ThreadPlan {
  const each = threads > 0 ? threads : Math.max(1, Math.floor(cores / workers));
  const environment: Record<string, string> = {
    SLUICE_THREADS: String(each),
    OMP_NUM_THREADS: String(each),
    OMP_DYNAMIC: 'false',
  };
  // A waiting thread that spins would take the core from one that works.
  if (each * workers > cores) environment.OMP_WAIT_POLICY = 'passive';
  return { threads: each, environment };
}
