/**
 * `tensorflow`: TensorFlow's own kernels, on CPUs and NVIDIA GPUs, through `@tensorflow/tfjs-node` or
 * `@tensorflow/tfjs-node-gpu`.
 */

import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Backend } from './backend.ts';
import { backendDirectory, missingPackages, requireFrom } from './location.ts';

const NAME = 'tensorflow';
const VERSION = '4.22.0';

/** What `sluice backend install tensorflow` leaves beside the packages. */
export interface TensorflowInstallation {
  /** `@tensorflow/tfjs-node` or `@tensorflow/tfjs-node-gpu`. */
  readonly package: string;
  readonly gpu: boolean;
  /** `npm`: the package's own libraries; `wheel`: those of PyPI's TensorFlow, with an addon that was compiled here. */
  readonly source: 'npm' | 'wheel';
  /** Version of TensorFlow's libraries. */
  readonly libraries: string;
}

export function tensorflowPackage(gpu: boolean): { name: string; version: string } {
  return { name: gpu ? '@tensorflow/tfjs-node-gpu' : '@tensorflow/tfjs-node', version: VERSION };
}

/** Where the installation is recorded, once it works. */
export function tensorflowRecordFile(): string {
  return join(backendDirectory(NAME), 'installation.json');
}

/** How the backend was installed; undefined where it was not, or not to the end. */
export function tensorflowInstallation(): TensorflowInstallation | undefined {
  if (!existsSync(tensorflowRecordFile())) return undefined;
  return JSON.parse(readFileSync(tensorflowRecordFile(), 'utf8')) as TensorflowInstallation;
}

/** TensorFlow reads these when its library is loaded. */
function prepareEnvironment(): void {
  const defaults: Record<string, string | undefined> = {
    // Only warnings and errors.
    TF_CPP_MIN_LOG_LEVEL: '1',
    TF_NUM_INTRAOP_THREADS: process.env.OMP_NUM_THREADS,
    // One operation after the other, as they are called.
    TF_NUM_INTEROP_THREADS: '1',
    // Sums on a GPU in a fixed order, where TensorFlow has such kernels.
    TF_DETERMINISTIC_OPS: '1',
  };
  for (const [name, value] of Object.entries(defaults)) {
    if (value !== undefined) process.env[name] ??= value;
  }
}

/** tfjs-node 4.22 calls this function, which Node 23 took away (tensorflow/tfjs#8425, never released). */
function restoreNodeUtil(): void {
  const util = createRequire(import.meta.url)('node:util') as Record<string, unknown>;
  util.isNullOrUndefined ??= (value: unknown) => value === null || value === undefined;
}

export const tensorflow: Backend = {
  name: NAME,
  purpose: 'NVIDIA GPUs, or CPUs, by TensorFlow',
  packages: [tensorflowPackage(false)],
  precisions: ['f32'],
  readsSynchronously: true,
  absence() {
    const installed = tensorflowInstallation();
    if (!installed)
      return missingPackages(NAME, [tensorflowPackage(false)]) ?? 'its installation is not complete';
    return missingPackages(NAME, [{ name: installed.package, version: VERSION }]);
  },
  async load() {
    prepareEnvironment();
    restoreNodeUtil();
    requireFrom(NAME, tensorflowInstallation()!.package);
  },
};
