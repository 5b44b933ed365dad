/** The time of each launch on a device: an event before it and one after it, on its stream. */

import type { LaunchTime, LaunchTiming } from '../deviceMeter.ts';
import type { CudaDriver, EventHandle } from './driver.ts';

/** See `DeviceMeter`. */
export async function timeLaunches(
  driver: CudaDriver,
  onLaunch: (kernel: string) => void,
): Promise<LaunchTiming> {
  await driver.done();
  const began = driver.mark();
  const starts: EventHandle[] = [];
  const ends: EventHandle[] = [];
  driver.launchWatch = {
    begins(kernel) {
      onLaunch(kernel);
      starts.push(driver.mark());
    },
    ends() {
      ends.push(driver.mark());
    },
  };
  return {
    async times() {
      const times: LaunchTime[] = [];
      for (const [i, end] of ends.entries()) {
        times.push({
          start: await driver.elapsed(began, starts[i]!),
          end: await driver.elapsed(began, end),
        });
      }
      return times;
    },
    end() {
      driver.launchWatch = undefined;
      for (const event of [began, ...starts, ...ends]) driver.forget(event);
    },
  };
}
