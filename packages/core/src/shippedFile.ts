/** Configurations and recipes that come with Sluice, by the names that its documentation gives them. */

import { existsSync } from 'node:fs';
import { isAbsolute, join, normalize } from 'node:path';
import { sluiceRoot } from './installation.ts';

const SHIPPED = [join('configs', '/'), join('data', 'recipes', '/')];

/**
 * `configs/quickstart.yaml` means the one that comes with Sluice, from whatever folder a command is run, unless that folder has
 * one itself.
 * @returns the path as it was given where it names no such file
 */
export function shippedFile(path: string, root = sluiceRoot): string {
  return existsSync(path) ? path : (shippedPath(path, root) ?? path);
}

/** Where the file lies that comes with Sluice by that name; undefined where it is the name of none. */
export function shippedPath(name: string, root = sluiceRoot): string | undefined {
  const plain = normalize(name);
  if (isAbsolute(name) || !SHIPPED.some((folder) => plain.startsWith(folder))) return undefined;
  const shipped = join(root, plain);
  return existsSync(shipped) ? shipped : undefined;
}
