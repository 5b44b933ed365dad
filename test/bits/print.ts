/**
 * Prints, as JSON, a hash of what each operation and each training gives with the core that is built (or with the one that
 * SLUICE_BUILD_DIR names): `node --import=tsx test/bits/print.ts [--threads N] [--write]`. With --write they become the
 * expected ones.
 */

import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { arithmetic, engineReport, selectBackend, setThreads } from '@sluice/engine';
import { OPERATIONS } from './operations.ts';
import { TRAININGS } from './training.ts';

export interface Bits {
  readonly arithmetic: string;
  readonly simd: string;
  readonly compiler: string | undefined;
  /** By the name of the operation or training. */
  readonly hashes: Readonly<Record<string, string>>;
}

function hash(results: readonly ArrayBufferView[]): string {
  const all = createHash('sha256');
  for (const { buffer, byteOffset, byteLength } of results) {
    all.update(Buffer.from(buffer, byteOffset, byteLength));
  }
  return all.digest('hex').slice(0, 16);
}

async function computeBits(): Promise<Bits> {
  const hashes: Record<string, string> = {};
  for (const [name, compute] of Object.entries({ ...OPERATIONS, ...TRAININGS })) {
    hashes[name] = hash(await compute());
  }
  const { simd, compiler } = engineReport();
  return { arithmetic: arithmetic(), simd, compiler, hashes };
}

const { values } = parseArgs({
  options: { threads: { type: 'string', default: '1' }, write: { type: 'boolean', default: false } },
});
await selectBackend('native');
setThreads(Number(values.threads));
const bits = await computeBits();
if (values.write) {
  const expected = { arithmetic: bits.arithmetic, hashes: bits.hashes };
  writeFileSync(new URL('expected.json', import.meta.url), `${JSON.stringify(expected, null, 2)}\n`);
}
process.stdout.write(`${JSON.stringify(bits)}\n`);
