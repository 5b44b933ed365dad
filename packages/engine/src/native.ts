/** Loads the C++ core, when it was built, and types what it exports. */

import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isInstalledPackage, sluiceRoot } from '@sluice/core';
import type { Floats } from './floats.ts';

/** Positional arguments of a kernel: typed arrays (also over shared memory), numbers, flags; null for what is left out. */
export type KernelArgument =
  // Which must be a host's: a kernel takes no others.
  Floats | Float64Array | Int32Array | Uint16Array | Uint8Array | number | boolean | null;

/** The functions of `packages/engine/native/src`, by the names given to SLUICE_EXPORT. */
export type NativeCore = Readonly<Record<string, (...args: KernelArgument[]) => number>>;

/** What the last build of the C++ core said. */
export interface NativeBuildInfo {
  readonly built: boolean;
  readonly reason?: string;
  readonly compiler?: string;
  readonly march?: string;
  readonly openmp?: boolean;
}

/** Where what is compiled here lies. */
export const buildDirectory =
  process.env.SLUICE_BUILD_DIR ?? join(dirname(fileURLToPath(import.meta.url)), '..', 'build');
let loaded: { readonly core: NativeCore } | { readonly core: undefined; readonly reason: string } | undefined;

function load(): NonNullable<typeof loaded> {
  if (process.env.SLUICE_NATIVE === 'off') return { core: undefined, reason: 'SLUICE_NATIVE=off is set' };
  const file = resolve(buildDirectory, 'sluice.node');
  if (!existsSync(file)) return { core: undefined, reason: nativeBuildInfo().reason ?? `${file} is missing` };
  try {
    return { core: createRequire(import.meta.url)(file) as NativeCore };
  } catch (error) {
    return { core: undefined, reason: `it does not load: ${(error as Error).message}` };
  }
}

/** The C++ core, or undefined where there is none that loads. */
export function nativeCore(): NativeCore | undefined {
  loaded ??= load();
  return loaded.core;
}

/**
 * Puts what `replace` makes of the C++ core in its place, if there is one.
 * @returns puts the original back
 */
export function replaceNativeCore(replace: (core: NativeCore) => NativeCore): () => void {
  const core = nativeCore();
  const original = loaded;
  if (core) loaded = { core: replace(core) };
  return () => {
    loaded = original;
  };
}

/** Why there is no C++ core; undefined where there is one. */
export function nativeAbsence(): string | undefined {
  loaded ??= load();
  return loaded.core ? undefined : loaded.reason;
}

/** Calls an exported function of the C++ core, which must be there. */
export function callNative(name: string, ...args: KernelArgument[]): number {
  const kernel = nativeCore()?.[name];
  if (!kernel) throw new Error(`The C++ core has no function "${name}".`);
  return kernel(...args);
}

/** Whether the C++ core, which must be there, computes a·b + c with one rounding. */
export function hasFusedMultiplyAdd(): boolean {
  return callNative('hasFusedMultiplyAdd') === 1;
}

/** What the user runs to build the C++ core: an installed package has no other script. */
export function buildCommand(): string {
  return isInstalledPackage()
    ? `node ${join(sluiceRoot, 'packages/engine/native/build.js')}`
    : 'npm run build';
}

export function nativeBuildInfo(): NativeBuildInfo {
  const file = join(buildDirectory, 'info.json');
  if (!existsSync(file)) return { built: false, reason: `it was never built; run: ${buildCommand()}` };
  return JSON.parse(readFileSync(file, 'utf8')) as NativeBuildInfo;
}

/** Sets how many threads the kernels called from this JavaScript thread use. No result depends on it. */
export function setThreads(count: number): void {
  nativeCore()?.setThreads?.(count);
}

export function threads(): number {
  return nativeCore()?.threads?.() ?? 1;
}
