/**
 * Where the packages of optional backends are installed: in folders of their own inside the `node_modules` that holds
 * TensorFlow.js, so that `package.json` and the lockfile know nothing of them, and so that what they import as
 * `@tensorflow/tfjs-core` is the copy that the engine uses. Sluice as an installed package has TensorFlow.js in its bundle only;
 * then they lie in a `node_modules` of its own, each with a copy that registers its kernels where the bundled one looks.
 */

import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { sluiceRoot } from '@sluice/core';
import type { InstallablePackage } from './backend.ts';

const engineRequire = createRequire(import.meta.url);

/** The `node_modules` that the engine's TensorFlow.js lies in; undefined where there is none beside the bundle. */
function sharedNodeModules(): string | undefined {
  try {
    return resolve(dirname(engineRequire.resolve('@tensorflow/tfjs/package.json')), '..', '..');
  } catch {
    return undefined;
  }
}

/** Whether packages of optional backends find a TensorFlow.js outside their folders. */
export function sharesTensorflow(): boolean {
  return sharedNodeModules() !== undefined;
}

/** The folder of an optional backend's packages; it need not exist. */
export function backendDirectory(name: string): string {
  return join(sharedNodeModules() ?? join(sluiceRoot, 'node_modules'), '.sluice-backends', name);
}

/** Imports a package of an optional backend as CommonJS. */
export function requireFrom(backend: string, packageName: string): unknown {
  return createRequire(join(backendDirectory(backend), 'package.json'))(packageName);
}

/** Names the packages of a backend that are not installed, and how to install them. */
export function missingPackages(
  backend: string,
  packages: readonly InstallablePackage[],
): string | undefined {
  const missing = packages.filter(({ name, version }) => installedVersion(backend, name) !== version);
  if (missing.length === 0) return undefined;
  const names = missing.map(({ name, version }) => `${name}@${version}`).join(' and ');
  return `${names} ${missing.length === 1 ? 'is' : 'are'} not installed (sluice backend install ${backend})`;
}

function installedVersion(backend: string, packageName: string): string | undefined {
  const file = join(backendDirectory(backend), 'node_modules', packageName, 'package.json');
  if (!existsSync(file)) return undefined;
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
