/** Remarks on the progress of long work: none for what is over soon, then one for each tenth. */

const QUIET_MS = 3_000;

/**
 * @param signal by which the work is ended: whoever tells how much is done throws its reason
 * @returns to be told how much is done
 */
export function percentLogger(
  what: string,
  log: (line: string) => void,
  signal?: AbortSignal,
): (done: number, total: number) => void {
  const start = performance.now();
  let shown = 0;
  return (done, total) => {
    signal?.throwIfAborted();
    const tenths = Math.floor((10 * done) / total);
    if (performance.now() - start < QUIET_MS || tenths <= shown) return;
    shown = tenths;
    log(`${what}: ${10 * tenths} %`);
  };
}
