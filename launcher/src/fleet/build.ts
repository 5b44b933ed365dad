/** What this host would run, as it must be the same on all hosts of a run. */

import { readFileSync } from 'node:fs';
import { SluiceError } from '@sluice/core';
import { nativeArithmetic } from '@sluice/engine';
import { PACKAGE_VERSION } from '../packageVersion.ts';
import type { Build } from './protocol.ts';

export function ownBuild(): Build {
  const { content } = JSON.parse(
    readFileSync(new URL('../../bundle/build.json', import.meta.url), 'utf8'),
  ) as { content: string };
  return { sluice: PACKAGE_VERSION, content, arithmetic: nativeArithmetic(), node: process.version };
}

/** What may differ: Node gives every program the same numbers. */
const FREE: ReadonlySet<keyof Build> = new Set(['node']);

/**
 * Refuses a host that runs another program, or computes otherwise.
 * @throws SLUICE_E_HOST_DIFFERS with what differs
 */
export function refuseOtherBuild(node: string, theirs: Build, ours: Build): void {
  const keys = (Object.keys(ours) as (keyof Build)[]).filter(
    (key) => !FREE.has(key) && theirs[key] !== ours[key],
  );
  if (keys.length === 0) return;
  const differences = keys.map((key) => `${key} is ${shown(theirs[key])} there and ${shown(ours[key])} here`);
  throw new SluiceError(
    'SLUICE_E_HOST_DIFFERS',
    `${node} would not compute what this host computes: ${differences.join('; ')}.`,
    { details: { node, theirs, ours } },
  );
}

function shown(value: string): string {
  return value.length > 16 ? `${value.slice(0, 12)}…` : value;
}
