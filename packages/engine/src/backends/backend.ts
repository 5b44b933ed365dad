/** What the engine knows of each TensorFlow.js backend. */

import type { Precision } from '../precision.ts';

export interface Backend {
  /** As TensorFlow.js and the configuration call it. */
  readonly name: string;
  /** What it is for, in a few words. */
  readonly purpose: string;
  /** Packages that `sluice backend install` brings; none for a backend that is always there. */
  readonly packages: readonly InstallablePackage[];
  /** In which activations may be; the first where nothing else is asked for. */
  readonly precisions: readonly [Precision, ...Precision[]];
  /** Whether values can be read in the middle of a pass; otherwise they can only be awaited when it is over. */
  readonly readsSynchronously: boolean;
  /** Why the backend cannot be loaded, as far as can be told without loading it; undefined when nothing is in the way. */
  absence(): string | undefined;
  /** What is wrong with how it is asked for, which is a mistake rather than an absence; undefined when nothing is. */
  mistake?(): string | undefined;
  /** Makes the backend known to TensorFlow.js. */
  load(): Promise<void>;
}

export interface InstallablePackage {
  readonly name: string;
  readonly version: string;
}
