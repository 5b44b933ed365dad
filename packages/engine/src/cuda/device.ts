/**
 * A device: its memory, and kernels to launch on it. What makes the machine code is the only difference between a GPU and the
 * emulator: NVRTC for the one, the platform's C++ compiler for the other.
 */

import { invariant, SluiceError } from '@sluice/core';
import { Arena } from './arena.ts';
import type {
  ArgumentPointers,
  CudaDriver,
  DeviceAddress,
  FunctionHandle,
  Grid,
  ModuleHandle,
} from './driver.ts';
import { KeptCopies } from './keptCopies.ts';
import {
  bytesOf,
  type KernelSignature,
  type KernelSource,
  kernelSource,
  parameterBytes,
  type Storage,
  signatures,
} from './kernelSource.ts';
import { checkGrid, MOST_INTEGER, refuseLaunch } from './limits.ts';
import { type TensorMap, TensorMaps } from './tensorMaps.ts';

export { bytesOf } from './kernelSource.ts';

/** Makes an image that the driver loads. */
export interface KernelCompiler {
  compile(source: KernelSource): Uint8Array;
}

interface HostValues {
  f32: Float32Array;
  /** The upper halves of floats. */
  bf16: Uint16Array;
  f64: Float64Array;
  i32: Int32Array;
}

const HOST = { f32: Float32Array, bf16: Uint16Array, f64: Float64Array, i32: Int32Array };

/** Values in a device's memory: an allocation, or a range of one. */
export class DeviceArray<S extends Storage = Storage> {
  readonly device: CudaDevice;
  readonly storage: S;
  readonly address: DeviceAddress;
  readonly length: number;

  constructor(device: CudaDevice, storage: S, address: DeviceAddress, length: number) {
    this.device = device;
    this.storage = storage;
    this.address = address;
    this.length = length;
  }

  /** The elements from `begin` until before `end`, in the same memory. */
  subarray(begin: number, end = this.length): DeviceArray<S> {
    invariant(
      0 <= begin && begin <= end && end <= this.length,
      `elements ${begin} to ${end} of ${this.length} on a device`,
    );
    return new DeviceArray(
      this.device,
      this.storage,
      this.address + begin * bytesOf(this.storage),
      end - begin,
    );
  }

  /** Copies `values` here, from the host. */
  write(values: HostValues[S]): this {
    invariant(values.length === this.length, `${values.length} values for ${this.length} on a device`);
    this.device.driver.write(this.address, values);
    return this;
  }

  /** Waits for what is under way, and copies the values to the host. */
  read(): HostValues[S] {
    return this.readInto(new HOST[this.storage](this.length) as HostValues[S]);
  }

  /** The same, to an array that is there. */
  readInto<Target extends HostValues[S]>(target: Target): Target {
    invariant(target.length === this.length, `${this.length} values of a device for ${target.length}`);
    this.device.driver.read(target, this.address);
    return target;
  }
}

/** What a kernel takes: an array or none for a pointer, a number, a struct's fields as the array of their type. */
export type Argument =
  | DeviceArray
  | null
  | number
  | TensorMap
  | Float32Array
  | Float64Array
  | Int32Array
  | BigUint64Array;

export interface DeviceOptions {
  /** Where the text of kernels comes from, if not from their files. */
  readonly sourceOf?: ((file: string) => KernelSource) | undefined;
  readonly isHopper?: boolean;
}

export class CudaDevice {
  readonly driver: CudaDriver;
  readonly arena: Arena;
  readonly tensorMaps: TensorMaps;
  readonly copies = new KeptCopies<DeviceArray>((array) => this.free(array));
  /** Whether kernels with Hopper's own instructions are taken. No bit depends on it. */
  readonly isHopper: boolean;
  readonly #compiler: KernelCompiler;
  readonly #sourceOf: (file: string) => KernelSource;
  /** By the text of their source. */
  readonly #modules = new Map<string, LoadedModule>();
  readonly #sources = new Map<string, KernelSource>();
  /** Bytes of memory of the host that the device reaches, by address. */
  readonly #onHost = new Map<DeviceAddress, number>();
  #multiprocessors: number | undefined;

  constructor(
    driver: CudaDriver,
    compiler: KernelCompiler,
    { sourceOf = kernelSource, isHopper = false }: DeviceOptions = {},
  ) {
    this.driver = driver;
    this.arena = new Arena(driver);
    this.tensorMaps = new TensorMaps(driver);
    this.isHopper = isHopper;
    this.#compiler = compiler;
    this.#sourceOf = sourceOf;
  }

  get multiprocessors(): number {
    this.#multiprocessors ??= this.driver.multiprocessors;
    return this.#multiprocessors;
  }

  /** Memory of arbitrary content, from the arena. */
  allocate<S extends Storage>(length: number, storage: S): DeviceArray<S> {
    return new DeviceArray(this, storage, this.arena.take(length * bytesOf(storage)), length);
  }

  /**
   * Memory of the host that kernels reach, at the speed of the bus; it lives as long as the device.
   * @throws SLUICE_E_OUT_OF_MEMORY
   */
  allocateOnHost<S extends Storage>(length: number, storage: S): DeviceArray<S> {
    const bytes = Math.max(1, length * bytesOf(storage));
    this.prepareToBlock();
    const address = this.driver.allocateOnHost(bytes);
    if (address === undefined) {
      throw new SluiceError(
        'SLUICE_E_OUT_OF_MEMORY',
        `The host has no ${Math.ceil(bytes / 2 ** 20)} MiB more that stay where the GPU reaches them, beside ` +
          `${Math.ceil(this.hostBytes / 2 ** 20)} MiB that do: sums of gradients that the GPU has no room for. Take more workers, or fewer lanes.`,
        { details: { bytes, hostBytes: this.hostBytes } },
      );
    }
    this.#onHost.set(address, bytes);
    return new DeviceArray(this, storage, address, length);
  }

  /** Taken by `allocateOnHost`. */
  get hostBytes(): number {
    return [...this.#onHost.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Gives all memory back. */
  dispose(): void {
    this.copies.forget();
    this.arena.dispose();
    for (const address of this.#onHost.keys()) this.driver.freeOnHost(address);
    this.#onHost.clear();
  }

  /** New memory with the values of the host. */
  upload<S extends Storage>(values: HostValues[S], storage: S): DeviceArray<S> {
    return this.allocate(values.length, storage).write(values);
  }

  /** Gives a whole allocation back. */
  free({ address }: DeviceArray): void {
    this.arena.give(address);
  }

  /**
   * Whoever loads code, or pins memory, may be blocked until all work is done that is under way, on any stream: who watches over other
   * processes has to have seen the end of theirs.
   */
  prepareToBlock(): void {
    this.arena.endAllBeside();
  }

  /** A kernel of the house, compiled and loaded at its first use. */
  kernel(file: string, name: string): Kernel {
    let source = this.#sources.get(file);
    if (!source) {
      source = this.#sourceOf(file);
      this.#sources.set(file, source);
    }
    return this.kernelOf(source, name);
  }

  /** A kernel of any other source. */
  kernelOf(source: KernelSource, name: string): Kernel {
    let loaded = this.#modules.get(source.text);
    if (!loaded) {
      const image = this.#compiler.compile(source);
      this.prepareToBlock();
      const module = this.driver.loadModule(image, `${source.name}.cu`);
      loaded = { module, signatures: signatures(source), kernels: new Map() };
      this.#modules.set(source.text, loaded);
    }
    let kernel = loaded.kernels.get(name);
    if (!kernel) {
      const signature = loaded.signatures.get(name);
      invariant(signature, `${source.name}.cu has no kernel ${name}`);
      kernel = new Kernel(this, loaded.module, signature);
      loaded.kernels.set(name, kernel);
    }
    return kernel;
  }
}

/** Activations are bf16 or float, one of them throughout. */
export type Activations = DeviceArray<'bf16' | 'f32'>;

/** The kernel for a kind of activations, of which files have one each. */
export function kernelFor(file: string, name: string, { device, storage }: Activations): Kernel {
  return device.kernel(file, `${name}${storage === 'bf16' ? 'Bf16' : 'Float'}`);
}

interface LoadedModule {
  readonly module: ModuleHandle;
  readonly signatures: ReadonlyMap<string, KernelSignature>;
  readonly kernels: Map<string, Kernel>;
}

export class Kernel {
  readonly #device: CudaDevice;
  readonly #module: ModuleHandle;
  readonly #signature: KernelSignature;
  /** Where the arguments lie, which is known once there were some: structs have the sizes of theirs. */
  #places: readonly Place[] | undefined;
  #pointers: ArgumentPointers | undefined;
  /** With how much shared memory the function may be launched. */
  #function: { handle: FunctionHandle; sharedBytes: number } | undefined;

  constructor(device: CudaDevice, module: ModuleHandle, signature: KernelSignature) {
    this.#device = device;
    this.#module = module;
    this.#signature = signature;
  }

  /** Loads the code ahead of a launch, which does so otherwise. */
  load(sharedBytes = 0): FunctionHandle {
    if (!this.#function || this.#function.sharedBytes < sharedBytes) {
      this.#device.prepareToBlock();
      const handle = this.#device.driver.getFunction(this.#module, this.#signature.name, sharedBytes);
      this.#function = { handle, sharedBytes };
    }
    return this.#function.handle;
  }

  /**
   * @param sharedBytes of each block: the size of the kernel's struct
   * @throws SLUICE_E_CUDA_KERNEL for more blocks, or larger numbers, than there are
   */
  launch(grid: Grid, sharedBytes: number, ...args: Argument[]): void {
    const { name, threads, parameters } = this.#signature;
    invariant(
      args.length === parameters.length,
      `${name} takes ${parameters.length} arguments, and got ${args.length}`,
    );
    checkGrid(name, grid);
    const { driver } = this.#device;
    const handle = this.load(sharedBytes);
    this.#places ??= this.#placesOf(handle, args);
    this.#pointers ??= driver.argumentPointers(this.#places.map(({ begin }) => begin));
    // Launches are many: no iterators.
    for (let i = 0; i < args.length; i++) pack(driver, this.#places[i]!, args[i]!);
    const { launchWatch } = driver;
    launchWatch?.begins(name);
    driver.launch(name, handle, grid, threads, sharedBytes, this.#pointers);
    launchWatch?.ends();
  }

  /** @throws where the machine code has other parameters */
  #placesOf(handle: FunctionHandle, args: readonly Argument[]): Place[] {
    const places = placesOf(args, this.#signature);
    const bytes = places.map(({ begin, end }) => end - begin).join(', ');
    const expected = this.#device.driver.parameterBytes(handle)?.join(', ') ?? bytes;
    invariant(
      bytes === expected,
      `${this.#signature.name} got arguments of ${bytes} bytes, where its parameters have ${expected}`,
    );
    return places;
  }
}

/** What arguments lie at multiples of. */
const ALIGNMENT = 8;

/** Of an argument among the others. */
interface Place {
  /** For whom it concerns. */
  readonly what: string;
  readonly parameter: KernelSignature['parameters'][number];
  readonly begin: number;
  readonly end: number;
}

function placesOf(args: readonly Argument[], { name, parameters }: KernelSignature): Place[] {
  let end = 0;
  return parameters.map((parameter, i) => {
    const begin = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    end = begin + sizeOf(parameter, args[i]!);
    return { what: `argument ${i} of ${name}`, parameter, begin, end };
  });
}

function sizeOf(parameter: Place['parameter'], arg: Argument): number {
  const bytes = parameterBytes(parameter) ?? (ArrayBuffer.isView(arg) ? arg.byteLength : undefined);
  invariant(bytes !== undefined, `an argument that is no ${JSON.stringify(parameter)}`);
  return bytes;
}

/** Puts an argument where the driver reads it. */
function pack(
  { arguments: view, argumentBytes: bytes }: CudaDriver,
  { what, parameter, begin, end }: Place,
  arg: Argument,
): void {
  if (!accepts(parameter, arg)) invariant(false, `${what} is no ${JSON.stringify(parameter)}`);
  if (arg === null || arg instanceof DeviceArray) putWhole(view, begin, arg?.address ?? 0);
  else if (typeof arg !== 'number') {
    if (arg.byteLength !== end - begin)
      invariant(false, `${what} has ${arg.byteLength} bytes, and had ${end - begin}`);
    bytes.set(
      arg instanceof Uint8Array ? arg : new Uint8Array(arg.buffer, arg.byteOffset, arg.byteLength),
      begin,
    );
  } else if (parameter.kind === 'number' && parameter.type === 'float') view.setFloat32(begin, arg, true);
  else if (end - begin === 8) putWhole(view, begin, arg);
  else if ((arg | 0) === arg) view.setInt32(begin, arg, true);
  else refuseLaunch(`${what} is ${arg}, and kernels count to ${MOST_INTEGER}`);
}

/** A whole number of 64 bits that is not negative. */
function putWhole(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

function accepts(parameter: KernelSignature['parameters'][number], arg: Argument): boolean {
  if (parameter.kind === 'pointer')
    return (
      arg === null || (arg instanceof DeviceArray && (parameter.to === 'any' || arg.storage === parameter.to))
    );
  if (parameter.kind === 'tensorMap') return arg instanceof Uint8Array;
  if (parameter.kind === 'struct') return ArrayBuffer.isView(arg);
  if (typeof arg !== 'number') return false;
  return parameter.type === 'float' || (Number.isSafeInteger(arg) && (parameter.type === 'int' || arg >= 0));
}
