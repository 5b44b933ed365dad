/** What is said where a run is launched on hosts. */

import type { HostsFlags } from '../fleet/hostsPlan.ts';
import type { ConfigFlags } from '../run/runConfig.ts';
import type { StopFlags } from '../run/stopPoint.ts';
import type { BesideOptions } from '../watch/beside.ts';

export interface LaunchRunOptions extends ConfigFlags, StopFlags, HostsFlags, BesideOptions {
  readonly config: string;
  readonly runDir?: string | undefined;
  readonly dryRun?: boolean | undefined;
}
