/** How often a host waits for a device. */

import type { CudaDriver } from '@sluice/engine/cuda';

/** Of the waits that `work` takes. */
export async function waitsIn(driver: CudaDriver, work: () => unknown): Promise<number> {
  const { synchronize } = driver;
  let waits = 0;
  driver.synchronize = () => {
    waits++;
    synchronize.call(driver);
  };
  try {
    await work();
  } finally {
    driver.synchronize = synchronize;
  }
  return waits;
}
