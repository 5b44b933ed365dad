/** Sources of kernels: where they are, and what their entries take, which is read from the text itself. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { invariant } from '@sluice/core';
import { LAYOUTS } from './header.ts';

/** The folder of `device.h`, the kernels, and the emulator. */
export const cudaFolder = fileURLToPath(new URL('../../cuda/', import.meta.url));

/** How values lie in memory. */
export type Storage = 'f32' | 'bf16' | 'f64' | 'i32';

/** Bytes of a value. */
export function bytesOf(storage: Storage): number {
  return BYTES[storage];
}

const BYTES: Readonly<Record<Storage, number>> = { f32: 4, bf16: 2, f64: 8, i32: 4 };

export type ParameterType =
  | { readonly kind: 'tensorMap' }
  | { readonly kind: 'pointer'; readonly to: Storage | 'any' }
  | { readonly kind: 'number'; readonly type: 'int' | 'uint64' | 'float' }
  | { readonly kind: 'struct'; readonly name: string };

export interface KernelSignature {
  readonly name: string;
  readonly threads: number;
  readonly parameters: readonly ParameterType[];
}

export interface KernelSource {
  /** Of the file, without its ending. */
  readonly name: string;
  readonly text: string;
}

const STORAGES: Readonly<Record<string, Storage | 'any'>> = {
  float: 'f32',
  bf16: 'bf16',
  double: 'f64',
  int: 'i32',
  void: 'any',
};
const NUMBERS = ['int', 'uint64', 'float'] as const;

export function kernelFiles(): string[] {
  return readdirSync(join(cudaFolder, 'kernels'))
    .filter((file) => file.endsWith('.cu'))
    .map((file) => file.slice(0, -3))
    .sort();
}

/** Whether a source is for a kind of GPU: what its name ends with says whose own instructions it uses. */
export function isFor({ name }: Pick<KernelSource, 'name'>, architecture: string): boolean {
  return !name.endsWith('Hopper') || architecture === HOPPER;
}

/** The kind of GPU that has the instructions of `hopper.h`. */
export const HOPPER = 'sm_90a';

export function kernelSource(name: string): KernelSource {
  return { name, text: readFileSync(join(cudaFolder, 'kernels', `${name}.cu`), 'utf8') };
}

/** What `#include` finds, by name. */
export function kernelHeaders(): Readonly<Record<string, string>> {
  const names = readdirSync(cudaFolder).filter((file) => file.endsWith('.h'));
  return Object.fromEntries(names.sort().map((name) => [name, readFileSync(join(cudaFolder, name), 'utf8')]));
}

/** The entries of a source: KERNEL(name, threads, blocks of a multiprocessor, parameters…). */
export function signatures({ name, text }: KernelSource): ReadonlyMap<string, KernelSignature> {
  const found = new Map<string, KernelSignature>();
  for (const [, kernel, threads, parameters] of text.matchAll(
    /^KERNEL\((\w+),\s*(\w+),\s*\d+,\s*([^)]*)\)/gm,
  )) {
    found.set(kernel!, {
      name: kernel!,
      threads: constant(text, threads!),
      parameters: parameters!.split(',').map((parameter) => parameterType(parameter.trim())),
    });
  }
  invariant(found.size > 0, `${name}.cu has no KERNEL`);
  return found;
}

/** Bytes that a parameter has; those of a struct are its own. */
export function parameterBytes(parameter: ParameterType): number | undefined {
  switch (parameter.kind) {
    case 'pointer':
      return 8;
    case 'number':
      return parameter.type === 'uint64' ? 8 : 4;
    case 'tensorMap':
      return LAYOUTS.CUtensorMap.bytes;
    case 'struct':
      return undefined;
  }
}

/** A number, or the name of one that the source defines. */
function constant(text: string, value: string): number {
  if (/^\d+$/.test(value)) return Number(value);
  const texts = [text, ...Object.values(kernelHeaders())].join('\n');
  const defined = new RegExp(`^constexpr int (?:.*, )?${value} = (\\d+)[,;]`, 'm').exec(texts);
  invariant(defined, `no constant ${value} among the kernel's`);
  return Number(defined[1]);
}

function parameterType(parameter: string): ParameterType {
  if (/^TENSOR_MAP \w+$/.test(parameter)) return { kind: 'tensorMap' };
  const [, type, star] = /^(?:const )?(\w+)(\*?) \w+$/.exec(parameter) ?? [];
  invariant(type, `a kernel's parameter that is not understood: ${parameter}`);
  const number = NUMBERS.find((name) => name === type);
  if (star) {
    const to = STORAGES[type];
    invariant(to, `a kernel's pointer that is not understood: ${parameter}`);
    return { kind: 'pointer', to };
  }
  return number ? { kind: 'number', type: number } : { kind: 'struct', name: type };
}
