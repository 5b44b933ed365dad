/**
 * The emulator: kernels on the CPU, from their own source, by the platform's C++ compiler. What it compiles is kept in
 * `packages/engine/build/cuda` by the hash of all that goes into it. The watch over memory needs the instrumentation of
 * `-fsanitize=thread`, which GCC and Clang have for 64-bit x86 and ARM.
 */

import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { SluiceError } from '@sluice/core';
import koffi from 'koffi';
import { type CxxCompiler, compilerCandidates, cxxCompiler } from '../compiler.ts';
import { CudaDevice, type KernelCompiler } from './device.ts';
import { CudaDriver } from './driver.ts';
import { cachedFile, hashOf } from './kernelCache.ts';
import { cudaFolder, type KernelSource, kernelHeaders } from './kernelSource.ts';

const COMMON_FLAGS = ['-std=c++17', '-fPIC', '-fvisibility=hidden', '-ffp-contract=off', '-g1', '-w'];
const KERNEL_FLAGS = [...COMMON_FLAGS, '-fno-exceptions', `-I${cudaFolder}`];
// As little as possible is moved, merged or left out, so that accesses are watched as they are written.
const WATCHED_FLAGS = [...KERNEL_FLAGS, '-O1', '-fno-thread-jumps', '-fsanitize=thread'];
const UNWATCHED_FLAGS = [...KERNEL_FLAGS, '-O2'];
const MACHINE_FLAGS = [...COMMON_FLAGS, '-O2', '-shared'];

const machineFolder = join(cudaFolder, 'emulator');

function compilerHere(): CxxCompiler {
  const compiler = cxxCompiler();
  if (compiler) return compiler;
  const tried = compilerCandidates().join(', ');
  throw new SluiceError(
    'SLUICE_E_CUDA',
    `The CUDA emulator needs a C++17 compiler, and there is none (tried ${tried}).`,
  );
}

/** Compiles to a file, unless it is there. @param steps with the path to write to @returns the path */
function make(
  file: string,
  steps: (output: string) => readonly { command: string; args: string[]; input?: string }[],
): string {
  return cachedFile(file, (output) => {
    try {
      for (const { command, args, input } of steps(output)) {
        execFileSync(command, args, {
          input: input ?? '',
          stdio: ['pipe', 'ignore', 'pipe'],
          maxBuffer: 1 << 26,
        });
      }
    } catch (error) {
      const said = String((error as { stderr?: Buffer }).stderr ?? (error as Error).message).trim();
      throw new SluiceError('SLUICE_E_CUDA', `${file} cannot be compiled for the emulator:\n${said}`);
    } finally {
      rmSync(`${output}.o`, { force: true });
    }
  });
}

/** The library that stands for the driver's. */
function machine(compiler: CxxCompiler): string {
  const sources = readdirSync(machineFolder).sort();
  const texts = sources.map((name) => readFileSync(join(machineFolder, name), 'utf8'));
  const { 'device.h': device, 'hopper.h': hopper } = kernelHeaders();
  const hash = hashOf(compiler.version, ...MACHINE_FLAGS, device!, hopper!, ...texts);
  const files = sources.filter((name) => name.endsWith('.cc')).map((name) => join(machineFolder, name));
  return make(`emulator-${hash}.so`, (output) => [
    { command: compiler.command, args: [...MACHINE_FLAGS, ...files, '-o', output, '-ldl'] },
  ]);
}

class HostCompiler implements KernelCompiler {
  readonly #compiler: CxxCompiler;
  readonly #machine: string;
  readonly #flags: readonly string[];

  constructor(compiler: CxxCompiler, machineLibrary: string, watch: boolean) {
    this.#compiler = compiler;
    this.#machine = machineLibrary;
    this.#flags = watch ? WATCHED_FLAGS : UNWATCHED_FLAGS;
  }

  compile({ name, text }: KernelSource): Uint8Array {
    const { command, version } = this.#compiler;
    const hash = hashOf(
      version,
      ...this.#flags,
      basename(this.#machine),
      JSON.stringify(kernelHeaders()),
      text,
    );
    const path = make(`${name}-${hash}.so`, (output) => [
      {
        command,
        args: [...this.#flags, '-x', 'c++', '-c', '-', '-o', `${output}.o`],
        input: `#line 1 "${name}.cu"\n${text}`,
      },
      // In a step of its own, without the flag that would bring the sanitizer's library.
      { command, args: ['-shared', `${output}.o`, this.#machine, '-o', output] },
    ]);
    return Buffer.from(`${path}\0`);
  }
}

/** Puts the kernel's line for a place in machine code, where binutils can tell. */
function withLine(text: string): string {
  return text.replace(/ @(.*)\+(\d+)$/, (_, library: string, offset: string) => {
    const args = ['--inlines', '--exe', library, Number(offset).toString(16)];
    const { status, stdout } = spawnSync('addr2line', args, { encoding: 'utf8' });
    // From within: what the header inlined comes first.
    const lines = status === 0 ? (stdout.match(/[^/\s]+:\d+/g) ?? []) : [];
    return ` (${lines.find((line) => line.includes('.cu:')) ?? lines[0] ?? basename(library)})`;
  });
}

export interface EmulatorSettings {
  /** In which order blocks, and their threads, take turns. */
  readonly order?: 'forward' | 'backward' | 'shuffled';
  /** Of `shuffled`. */
  readonly seed?: number;
  /** How tensor cores add: as a kind of GPU does, or exactly and rounded once for every 16 products. */
  readonly arithmetic?: 'exact' | 'ampere' | 'hopper';
  /** Of the device; 16 GiB if nothing else is said. */
  readonly memoryBytes?: number;
  /** Whether the driver maps memory to reserved addresses, as nearly all do. */
  readonly mapsMemory?: boolean;
  /** Whether launches do anything: otherwise what is left is what they cost the host. */
  readonly runsKernels?: boolean;
  /** Whether it reads the host's memory where it is, as a GH200 does: a copy from there may read it after the call. */
  readonly readsHostPages?: boolean;
}

export interface EmulatorOptions {
  /** Where the text of kernels comes from, if not from their files. */
  readonly sourceOf?: (file: string) => KernelSource;
  /** Whether it watches what kernels touch, in this whole process; otherwise they run some ten times faster. */
  readonly watch?: boolean;
  /** Whether it takes kernels with Hopper's own instructions, as on a card that has them. */
  readonly isHopper?: boolean;
}

/** Counts since the last time they were asked for. */
export interface EmulatorStatistics {
  readonly switches: number;
  readonly products: number;
  readonly matrixLoads: number;
  /** How often a matrix load had to wait for a bank of shared memory. */
  readonly bankConflicts: number;
}

/** Calls of NCCL since the last time they were asked for. */
export interface NcclCalls {
  readonly groups: number;
  readonly sends: number;
  readonly receives: number;
  readonly bytesSent: number;
  readonly aborts: number;
}

/** What NCCL of the emulator's can, and a real one cannot. @param library of the emulated driver */
export function emulatedNccl(library: string): {
  /** For how long a send or a receive waits for its counterpart; then it is an error. */
  readonly limit: (milliseconds: number) => void;
  readonly calls: () => NcclCalls;
} {
  const opened = koffi.load(library);
  const count = opened.func('emulatorNcclCalls', 'void', ['void *']) as (counts: Float64Array) => void;
  return {
    limit: opened.func('emulatorNcclLimit', 'void', ['int']) as (milliseconds: number) => void,
    calls() {
      const counts = new Float64Array(new ArrayBuffer(40));
      count(counts);
      const [groups, sends, receives, bytesSent, aborts] = counts as unknown as number[] & { length: 5 };
      return {
        groups: groups!,
        sends: sends!,
        receives: receives!,
        bytesSent: bytesSent!,
        aborts: aborts!,
      };
    },
  };
}

const DEVICE_BYTES = 16 * 2 ** 30;
const ORDERS = ['forward', 'backward', 'shuffled'] as const;
const ARITHMETICS = ['exact', 'ampere', 'hopper'] as const;

export class Emulator {
  readonly device: CudaDevice;
  readonly #settings: (...values: (number | boolean)[]) => void;
  readonly #statistics: (counts: Float64Array) => void;

  /** @throws SLUICE_E_CUDA without a C++ compiler */
  constructor({ sourceOf, watch = true, isHopper = false }: EmulatorOptions = {}) {
    const compiler = compilerHere();
    const path = machine(compiler);
    const driver = new CudaDriver(path, withLine);
    this.device = new CudaDevice(driver, new HostCompiler(compiler, path, watch), { sourceOf, isHopper });
    const library = koffi.load(path);
    const settings = ['int', 'uint32_t', 'int', 'size_t', 'bool', 'bool', 'bool'];
    this.#settings = library.func('emulatorSettings', 'void', settings);
    library.func('emulatorWatch', 'void', ['bool'])(watch);
    this.#statistics = library.func('emulatorStatistics', 'void', ['void *']);
  }

  /** How the following launches run: threads forward, as on Hopper, if nothing else is said. */
  set({
    order = 'forward',
    seed = 1,
    arithmetic = 'hopper',
    memoryBytes = DEVICE_BYTES,
    mapsMemory = true,
    runsKernels = true,
    readsHostPages = false,
  }: EmulatorSettings): void {
    const numbers = [ORDERS.indexOf(order), seed, ARITHMETICS.indexOf(arithmetic), memoryBytes];
    this.#settings(...numbers, mapsMemory, runsKernels, readsHostPages);
  }

  statistics(): EmulatorStatistics {
    const counts = new Float64Array(new ArrayBuffer(32));
    this.#statistics(counts);
    const [switches, products, matrixLoads, bankConflicts] = counts as unknown as [
      number,
      number,
      number,
      number,
    ];
    return { switches, products, matrixLoads, bankConflicts };
  }
}
