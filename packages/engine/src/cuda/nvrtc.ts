/**
 * NVRTC, NVIDIA's compiler of CUDA C++, through koffi. It makes machine code for any GPU without one. It needs no header but ours,
 * and nothing of CUDA's toolkit.
 */

import { SluiceError } from '@sluice/core';
import koffi from 'koffi';
import type { KernelCompiler } from './device.ts';
import type { Declares } from './driverFunctions.ts';
import { NVRTC } from './header.ts';
import { type KernelSource, kernelHeaders } from './kernelSource.ts';

// The arithmetic is the one that is written (`device.h`). `-v` makes ptxas say registers and spills.
export const NVRTC_OPTIONS = ['--std=c++17', '--fmad=false', '--ptxas-options=-v'];

export interface CompiledKernels {
  readonly cubin: Uint8Array;
  /** What the compiler and its assembler said. */
  readonly log: string;
}

/** What the assembler said of an entry. */
export interface KernelResources {
  readonly name: string;
  /** Of each thread. */
  readonly registers: number;
  /** Bytes of local memory that were needed since registers were not enough: stores, and loads. */
  readonly spillStores: number;
  readonly spillLoads: number;
  /** Bytes of arrays in local memory. */
  readonly stack: number;
}

export function nvrtcFunctions(library: Declares) {
  const define = (name: string, ...parameters: string[]) =>
    library.func(name, 'int', parameters) as (...args: unknown[]) => number;
  return {
    nvrtcVersion: define('nvrtcVersion', 'void *', 'void *'),
    nvrtcCreateProgram: define(
      'nvrtcCreateProgram',
      'void *',
      'str',
      'str',
      'int',
      'const char **',
      'const char **',
    ),
    nvrtcDestroyProgram: define('nvrtcDestroyProgram', 'void *'),
    nvrtcCompileProgram: define('nvrtcCompileProgram', 'uintptr_t', 'int', 'const char **'),
    nvrtcGetCUBINSize: define('nvrtcGetCUBINSize', 'uintptr_t', 'void *'),
    nvrtcGetCUBIN: define('nvrtcGetCUBIN', 'uintptr_t', 'void *'),
    nvrtcGetProgramLogSize: define('nvrtcGetProgramLogSize', 'uintptr_t', 'void *'),
    nvrtcGetProgramLog: define('nvrtcGetProgramLog', 'uintptr_t', 'void *'),
    nvrtcGetErrorString: library.func('nvrtcGetErrorString', 'str', ['int']) as (code: number) => string,
  };
}

type Functions = ReturnType<typeof nvrtcFunctions>;

export class Nvrtc {
  readonly #functions: Functions;

  /**
   * @param path of the library, or its name where the system finds it (`libnvrtc.so.13`)
   * @throws SLUICE_E_CUDA
   */
  constructor(path: string) {
    try {
      this.#functions = nvrtcFunctions(koffi.load(path));
    } catch (error) {
      throw new SluiceError(
        'SLUICE_E_CUDA',
        `NVRTC cannot be opened as ${path}: ${(error as Error).message}`,
      );
    }
  }

  #check(code: number, call: string): void {
    if (code === NVRTC.NVRTC_SUCCESS) return;
    throw new SluiceError('SLUICE_E_CUDA', `${call} failed: ${this.#functions.nvrtcGetErrorString(code)}.`);
  }

  /** Such as `13.5`. */
  get version(): string {
    const [major, minor] = [new Int32Array(1), new Int32Array(1)];
    this.#check(this.#functions.nvrtcVersion(major, minor), 'nvrtcVersion');
    return `${major[0]}.${minor[0]}`;
  }

  /**
   * @param architecture such as `sm_90a`
   * @throws SLUICE_E_CUDA with the compiler's messages
   */
  compile({ name, text }: KernelSource, architecture: string): CompiledKernels {
    const functions = this.#functions;
    const handle = new BigUint64Array(1);
    const headers = kernelHeaders();
    const [names, texts] = [Object.keys(headers), Object.values(headers)];
    this.#check(
      functions.nvrtcCreateProgram(handle, text, `${name}.cu`, names.length, texts, names),
      'nvrtcCreateProgram',
    );
    try {
      const program = Number(handle[0]);
      const options = [`--gpu-architecture=${architecture}`, ...NVRTC_OPTIONS];
      const code = functions.nvrtcCompileProgram(program, options.length, options);
      const log = this.#bytes(program, 'nvrtcGetProgramLog').toString('utf8').replace(/\0+$/, '');
      if (code !== NVRTC.NVRTC_SUCCESS) {
        // Of the options the kind of GPU alone is another from time to time.
        const advice =
          code === NVRTC.NVRTC_ERROR_INVALID_OPTION
            ? ` NVRTC ${this.version} is older than this kind of GPU: install a newer one (sluice backend install cuda fetches one).`
            : '';
        const reason = functions.nvrtcGetErrorString(code);
        throw new SluiceError(
          'SLUICE_E_CUDA',
          `${name}.cu does not compile for ${architecture}: ${reason}.${advice}\n${log}`,
        );
      }
      return { cubin: this.#bytes(program, 'nvrtcGetCUBIN'), log };
    } finally {
      functions.nvrtcDestroyProgram(handle);
    }
  }

  #bytes(program: number, get: 'nvrtcGetCUBIN' | 'nvrtcGetProgramLog'): Buffer {
    const size = new BigUint64Array(1);
    this.#check(this.#functions[`${get}Size`](program, size), `${get}Size`);
    const bytes = Buffer.alloc(Number(size[0]));
    if (bytes.length > 0) this.#check(this.#functions[get](program, bytes), get);
    return bytes;
  }

  /** For one kind of GPU. */
  compilerFor(architecture: string): KernelCompiler {
    return { compile: (source) => this.compile(source, architecture).cubin };
  }
}

/** What the log of a compilation says of each entry. */
export function resourcesOf(log: string): KernelResources[] {
  const pattern =
    /Compiling entry function '(\w+)'[\s\S]*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads[\s\S]*?Used (\d+) registers/g;
  return Array.from(log.matchAll(pattern), ([, name, stack, spillStores, spillLoads, registers]) => ({
    name: name!,
    registers: Number(registers),
    spillStores: Number(spillStores),
    spillLoads: Number(spillLoads),
    stack: Number(stack),
  }));
}
