/** Remarks on the progress of long work: none for what is over soon, then one for each tenth. */

const QUIET_MS = 3_000;

/** @returns to be told how much is done */
export function percentLogger(
  what: string,
  log: (line: string) => void,
): (done: number, total: number) => void {
  const start = performance.now();
  let shown = 0;
  return (done, total) => {
    const tenths = Math.floor((10 * done) / total);
    if (performance.now() - start < QUIET_MS || tenths <= shown) return;
    shown = tenths;
    log(`${what}: ${10 * tenths} %`);
  };
}
