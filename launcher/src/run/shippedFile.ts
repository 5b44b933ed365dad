/** Configurations and recipes that come with Sluice, by the names that its documentation gives them. */

import { existsSync } from 'node:fs';
import { isAbsolute, join, normalize } from 'node:path';
import { sluiceRoot } from '@sluice/core';

const SHIPPED = [join('configs', '/'), join('data', 'recipes', '/')];

/**
 * `configs/quickstart.yaml` means the one that comes with Sluice, from whatever folder a command is run, unless that folder has
 * one itself.
 * @returns the path as it was given where it names no such file
 */
export function shippedFile(path: string, root = sluiceRoot): string {
  const plain = normalize(path);
  if (isAbsolute(path) || existsSync(path) || !SHIPPED.some((folder) => plain.startsWith(folder)))
    return path;
  const shipped = join(root, plain);
  return existsSync(shipped) ? shipped : path;
}
