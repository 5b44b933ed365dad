/**
 * The bits that every kernel gives, as the emulator computes them, kept in `cuda/golden.json` as a hash of each result. Where they
 * depend on how tensor cores add, there is one for each of the two ways that are known.
 */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BorrowedMemory, type Errors } from './cases/case.ts';
import { CHECKS } from './cases/checks.ts';
import type { CudaDevice } from './device.ts';
import { cudaFolder } from './kernelSource.ts';

/** Ampere's and Ada's tensor cores, or Hopper's. */
export const TENSOR_CORES = ['ampere', 'hopper'] as const;
export type TensorCores = (typeof TENSOR_CORES)[number];

/** Hashes of a case's results, by their names. */
export type Hashes = Readonly<Record<string, string>>;

/** By the names of cases and results: one hash, or one for each kind of tensor cores where they differ. */
export type Golden = Readonly<
  Record<string, Readonly<Record<string, string | Readonly<Record<TensorCores, string>>>>>
>;

export const goldenFile = join(cudaFolder, 'golden.json');

export function readGolden(): Golden {
  return JSON.parse(readFileSync(goldenFile, 'utf8')) as Golden;
}

export interface Checked {
  readonly name: string;
  readonly hashes: Hashes;
  /** Beside double precision. */
  readonly errors: Errors;
}

/** Runs a case of `CHECKS` once. `cuda` must be the running backend, and this its device. */
export function runCheck(device: CudaDevice, name: string): Checked {
  const memory = new BorrowedMemory(device);
  try {
    const { run, outputs, judge } = CHECKS[name]!(memory);
    const errorsOf = judge?.();
    run();
    const hashes = Object.entries(outputs()).map(([output, values]) => [output, hashOf(values)]);
    return { name, hashes: Object.fromEntries(hashes), errors: errorsOf?.() ?? {} };
  } finally {
    memory.giveBack();
  }
}

function hashOf(values: NodeJS.TypedArray): string {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return createHash('sha256').update(bytes).digest('hex').slice(0, 16);
}

/** One table of what was computed with either kind of tensor cores. */
export function joinGolden(byKind: Readonly<Record<TensorCores, readonly Checked[]>>): Golden {
  return Object.fromEntries(
    byKind.ampere.map(({ name, hashes }, i) => {
      const others = byKind.hopper[i]!.hashes;
      const joined = Object.entries(hashes).map(([output, ampere]) => {
        const hopper = others[output]!;
        return [output, ampere === hopper ? ampere : { ampere, hopper }];
      });
      return [name, Object.fromEntries(joined)];
    }),
  );
}

/** With which kinds of tensor cores all results have the golden bits; none where some have others, or none are known. */
export function matching({ name, hashes }: Pick<Checked, 'name' | 'hashes'>, golden: Golden): TensorCores[] {
  const expected = golden[name];
  if (!expected) return [];
  return TENSOR_CORES.filter((kind) =>
    Object.entries(hashes).every(([output, hash]) => {
      const known = expected[output];
      return hash === (typeof known === 'string' ? known : known?.[kind]);
    }),
  );
}
