/** Programs that stand in for a scheduler's own, on a PATH of their own. */

import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/**
 * Writes shell scripts of the given names and bodies.
 * @returns a PATH that finds them before all others
 */
export function standInPrograms(directory: string, bodies: Readonly<Record<string, string>>): string {
  const bin = join(directory, 'bin');
  mkdirSync(bin, { recursive: true });
  for (const [name, body] of Object.entries(bodies)) {
    writeFileSync(join(bin, name), `#!/bin/bash\n${body}\n`);
    chmodSync(join(bin, name), 0o755);
  }
  return [bin, process.env.PATH].join(delimiter);
}
