/**
 * The CUDA driver through its C interface, by koffi: the system's `libcuda`, or the emulator's library, which has the same functions.
 * Calls are made on the calling thread. Addresses of the device are numbers: they have 49 bits at most.
 */

import { setImmediate } from 'node:timers/promises';
import { invariant, SluiceError } from '@sluice/core';
import koffi from 'koffi';
import {
  type Declares,
  type DriverCall,
  type DriverFunctions,
  driverFunctions,
  parameterFunctions,
  versionFunction,
  watchOf,
} from './driverFunctions.ts';
import { CUDA, LAYOUTS, structOf } from './header.ts';
import { cacheFolder } from './kernelCache.ts';
import type { Storage } from './kernelSource.ts';
import { LeftWaits } from './leftWaits.ts';
import type { Moment } from './moment.ts';

export type DeviceAddress = number;
/** Handles of the driver's. */
export type ModuleHandle = number & { readonly module: unique symbol };
export type FunctionHandle = number & { readonly function: unique symbol };
export type StreamHandle = number & { readonly stream: unique symbol };
export type EventHandle = number & { readonly event: unique symbol };

/** Blocks of a launch along its axes. */
export type Grid = readonly [x: number, y?: number, z?: number];

const ATTRIBUTES = {
  multiprocessors: CUDA.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
  major: CUDA.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
  minor: CUDA.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
  sharedBytesOfBlock: CUDA.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
  readsHostPages: CUDA.CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES,
  canMapMemory: CUDA.CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
};
/** The oldest that has all functions, and takes the machine code of a compiler that is looked for: 12.0. */
const LEAST_VERSION = 12_000;
/** What launches may ask for without saying so before. */
const USUAL_SHARED_BYTES = 48 * 1024;
/** From how many bytes on a copy from memory of the host that is not pinned may wait for its stream. */
const WAITING_BYTES = 64 * 1024;
/** Most that a kernel's arguments may have. */
const ARGUMENT_BYTES = 4096;
const TENSOR_TYPES: Partial<Record<Storage, number>> = {
  f32: CUDA.CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
  bf16: CUDA.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
};
const TENSOR_OPTIONS = [
  CUDA.CU_TENSOR_MAP_INTERLEAVE_NONE,
  CUDA.CU_TENSOR_MAP_SWIZZLE_128B,
  CUDA.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
  CUDA.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
];
const TENSOR_MAP_BYTES = LAYOUTS.CUtensorMap.bytes;
/** Of its address; drivers ask for half of it, CUDA 13's header has this. */
const TENSOR_MAP_ALIGNMENT = 128;

/**
 * Results that a kernel leaves which went wrong: the device comes to it after its launch, so any later call tells of it, and none succeeds
 * afterwards in the same process.
 */
const KERNEL_ERRORS: ReadonlySet<number> = new Set([
  CUDA.CUDA_ERROR_ILLEGAL_ADDRESS,
  CUDA.CUDA_ERROR_LAUNCH_TIMEOUT,
  CUDA.CUDA_ERROR_HARDWARE_STACK_ERROR,
  CUDA.CUDA_ERROR_ILLEGAL_INSTRUCTION,
  CUDA.CUDA_ERROR_MISALIGNED_ADDRESS,
  CUDA.CUDA_ERROR_INVALID_ADDRESS_SPACE,
  CUDA.CUDA_ERROR_INVALID_PC,
  CUDA.CUDA_ERROR_LAUNCH_FAILED,
]);

/** The same of the card itself, its memory, or what connects it with others. */
const CARD_ERRORS: ReadonlySet<number> = new Set([
  CUDA.CUDA_ERROR_ECC_UNCORRECTABLE,
  CUDA.CUDA_ERROR_NVLINK_UNCORRECTABLE,
  CUDA.CUDA_ERROR_UNKNOWN,
]);

/** What a driver says of machine code that is damaged, for another card, or by a compiler of a newer CUDA than it knows. */
const IMAGE_ERRORS: ReadonlySet<number> = new Set([
  CUDA.CUDA_ERROR_INVALID_IMAGE,
  CUDA.CUDA_ERROR_NO_BINARY_FOR_GPU,
  CUDA.CUDA_ERROR_INVALID_PTX,
  CUDA.CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
  CUDA.CUDA_ERROR_INVALID_SOURCE,
]);

/** CUDA's text of a failure, and what to do about one that is an earlier call's, or machine code's. */
export function explained(text: string, code: number): string {
  if (IMAGE_ERRORS.has(code))
    return (
      `${text}; the machine code is damaged, or the driver is older than what compiled it. Delete ${cacheFolder}, ` +
      'where it is kept, so that it is compiled anew, or install a newer driver'
    );
  return KERNEL_ERRORS.has(code) && process.env.CUDA_LAUNCH_BLOCKING !== '1'
    ? `${text}; a kernel that was launched before went wrong, and this process can compute no more: with CUDA_LAUNCH_BLOCKING=1 ` +
        'the launch itself fails, and names the kernel'
    : text;
}

/** Of CUDA, such as 13.0 for 13000. */
export function versionText(version: number): string {
  return `${Math.floor(version / 1000)}.${(version % 1000) / 10}`;
}

/** @throws SLUICE_E_CUDA */
function refuseOld(library: Declares): void {
  const version = integer();
  if (versionFunction(library)(version) !== 0 || version[0]! >= LEAST_VERSION) return;
  throw new SluiceError(
    'SLUICE_E_CUDA',
    `The NVIDIA driver takes CUDA ${versionText(version[0]!)} at most, and the kernels need ${versionText(LEAST_VERSION)}: ` +
      'install driver 525 or newer.',
  );
}

/** A place for one result of a call. */
const handle = () => new BigUint64Array(new ArrayBuffer(8));
const integer = () => new Int32Array(new ArrayBuffer(4));

/** Matrices as the copy engine takes them; axes are columns, rows, matrices. */
export interface TensorMapShape {
  readonly address: DeviceAddress;
  readonly storage: Storage;
  readonly sizes: readonly number[];
  /** Bytes from one row to the next, from one matrix to the next. */
  readonly strides: readonly number[];
  /** What one copy takes. */
  readonly box: readonly number[];
}

/** What the driver is told of arguments: a pointer to each. */
export interface ArgumentPointers {
  /** They live as long as somebody has them. */
  readonly pointers: BigUint64Array;
  readonly address: number;
}

export interface LaunchWatch {
  begins(kernel: string): void;
  ends(): void;
}

/** Hears which parts of memory an arena has lent out, and finds whoever touches something else. */
export interface MemoryWatch {
  /** Bytes that should lie between allocations, so that it sees who goes beyond the end of one. */
  readonly gapBytes: number;
  taken(address: DeviceAddress, bytes: number): void;
  given(address: DeviceAddress): void;
}

export class CudaDriver {
  /** File name, or path. */
  readonly library: string;
  readonly #functions: DriverFunctions;
  readonly #parameters: ReturnType<typeof parameterFunctions>;
  /** The emulator's; a GPU has none. */
  readonly watch: MemoryWatch | undefined;
  readonly #device: number;
  /** That of all work but what goes beside it. */
  readonly #usual: StreamHandle;
  /** On which everything is asked for now. */
  #stream: StreamHandle;
  readonly #leftWaits = new LeftWaits();
  /** Whether the device reads memory of the host where it is, as a GH200 does, so that no driver has to take a copy of it first. */
  #readsHostPages: boolean | undefined;
  /** Told of each launch, while somebody wants to know. */
  launchWatch: LaunchWatch | undefined;
  /** What there is to say beyond CUDA's text of a failure. */
  readonly #explain: (text: string, code: number) => string;
  /** Where the arguments of the next launch are put, each where its kernel's `argumentPointers` has it. */
  readonly arguments = new DataView(new ArrayBuffer(ARGUMENT_BYTES));
  /** The same memory. */
  readonly argumentBytes = new Uint8Array(this.arguments.buffer);
  readonly #argumentAddress = Number(koffi.address(this.argumentBytes));

  /**
   * Opens the driver and the first of its visible devices, with a stream of its own.
   * @param library file name, or path, of the driver's library
   * @throws SLUICE_E_CUDA where there is none, or it has no device
   */
  constructor(library: string, explain: (text: string, code: number) => string = explained) {
    this.library = library;
    this.#explain = explain;
    try {
      const opened = koffi.load(library);
      refuseOld(opened);
      this.#functions = driverFunctions(opened);
      this.#parameters = parameterFunctions(opened);
      const watch = watchOf(opened);
      this.watch = watch && {
        gapBytes: 256,
        taken: (address, bytes) => this.#check('emulatorTake', watch.take(address, bytes, this.#stream)),
        given: (address) => this.#check('emulatorGive', watch.give(address, this.#stream)),
      };
    } catch (error) {
      if (error instanceof SluiceError) throw error;
      throw new SluiceError(
        'SLUICE_E_CUDA',
        `The CUDA driver ${library} cannot be opened: ${(error as Error).message}`,
      );
    }
    this.#call('cuInit', 0);
    const count = integer();
    this.#call('cuDeviceGetCount', count);
    if (count[0] === 0) throw new SluiceError('SLUICE_E_CUDA', 'The CUDA driver shows no GPU.');
    const device = integer();
    this.#call('cuDeviceGet', device, 0);
    this.#device = device[0]!;
    this.#call('cuCtxSetCurrent', this.#handle('cuDevicePrimaryCtxRetain', this.#device));
    this.#usual = this.makeStream();
    this.#stream = this.#usual;
  }

  #call(name: DriverCall, ...args: unknown[]): void {
    this.#check(name, this.#functions[name](...args));
  }

  #check(name: string, code: number): void {
    if (code !== 0) throw this.#failure(name, code);
  }

  #handle(name: DriverCall, ...args: unknown[]): number {
    const result = handle();
    this.#call(name, result, ...args);
    return Number(result[0]);
  }

  #failure(call: string, code: number): SluiceError {
    const [name, text] = [[null], [null]] as (string | null)[][];
    this.#functions.cuGetErrorName(code, name);
    this.#functions.cuGetErrorString(code, text);
    const what = this.#explain(text![0] ?? '', code);
    const result = name![0] ?? `${code}`;
    // Of the device itself: in a new process, or on another card, the same may succeed.
    const isOfDevice = KERNEL_ERRORS.has(code) || CARD_ERRORS.has(code);
    return new SluiceError('SLUICE_E_CUDA', `${call} failed with ${result}: ${what}.`, {
      details: { result, isOfDevice },
    });
  }

  #attribute(attribute: keyof typeof ATTRIBUTES): number {
    const value = integer();
    this.#call('cuDeviceGetAttribute', value, ATTRIBUTES[attribute], this.#device);
    return value[0]!;
  }

  /** As 13000 for 13.0: the newest CUDA whose cubins it takes. */
  get version(): number {
    const version = integer();
    this.#call('cuDriverGetVersion', version);
    return version[0]!;
  }

  get deviceName(): string {
    const name = new Uint8Array(new ArrayBuffer(256));
    this.#call('cuDeviceGetName', name, name.length, this.#device);
    return Buffer.from(name.subarray(0, name.indexOf(0))).toString('utf8');
  }

  /** Four words that no other GPU has, on any machine; parts of one (MIG) have the same, since nothing goes from one to the other by NCCL. */
  get deviceIdentity(): Int32Array {
    const identity = new Int32Array(new ArrayBuffer(LAYOUTS.CUuuid.bytes));
    this.#call('cuDeviceGetUuid', identity, this.#device);
    return identity;
  }

  /** Such as `{ major: 9, minor: 0 }`. */
  get computeCapability(): { major: number; minor: number } {
    return { major: this.#attribute('major'), minor: this.#attribute('minor') };
  }

  get multiprocessors(): number {
    return this.#attribute('multiprocessors');
  }

  /** Bytes of shared memory that a block may have. */
  get sharedBytesOfBlock(): number {
    return this.#attribute('sharedBytesOfBlock');
  }

  /** Bytes of the device's memory: free now, and all. */
  get memory(): { readonly free: number; readonly total: number } {
    const [free, total] = [handle(), handle()];
    this.#call('cuMemGetInfo', free, total);
    return { free: Number(free[0]), total: Number(total[0]) };
  }

  /** What mapped memory comes in multiples of; 0 where the driver maps none. */
  get mappingGranularity(): number {
    return this.#attribute('canMapMemory') === 0
      ? 0
      : this.#handle(
          'cuMemGetAllocationGranularity',
          this.#properties(),
          CUDA.CU_MEM_ALLOC_GRANULARITY_MINIMUM,
        );
  }

  #location() {
    return { 'location.type': CUDA.CU_MEM_LOCATION_TYPE_DEVICE, 'location.id': this.#device };
  }

  #properties(): Int32Array {
    return structOf('CUmemAllocationProp', {
      type: CUDA.CU_MEM_ALLOCATION_TYPE_PINNED,
      ...this.#location(),
    });
  }

  /**
   * A range of addresses, without memory.
   * @param bytes a multiple of the granularity, as for what follows
   * @returns undefined where the driver refuses so large a one
   */
  reserve(bytes: number): DeviceAddress | undefined {
    const address = handle();
    const code = this.#functions.cuMemAddressReserve(address, bytes, 0, 0, 0);
    return code === 0 ? Number(address[0]) : undefined;
  }

  unreserve(address: DeviceAddress, bytes: number): void {
    this.#call('cuMemAddressFree', address, bytes);
  }

  /**
   * Puts memory of arbitrary content into a part of a range. It may wait until all is done that is under way, on any stream.
   * @returns false where the device has no more
   */
  map(address: DeviceAddress, bytes: number): boolean {
    this.#leftWaits.follow();
    const memory = handle();
    const code = this.#functions.cuMemCreate(memory, bytes, this.#properties(), 0);
    if (code === CUDA.CUDA_ERROR_OUT_OF_MEMORY) return false;
    this.#check('cuMemCreate', code);
    const created = memory[0];
    try {
      this.#call('cuMemMap', address, bytes, 0, created, 0);
    } finally {
      // It stays until it is unmapped.
      this.#call('cuMemRelease', created);
    }
    const access = structOf('CUmemAccessDesc', {
      ...this.#location(),
      flags: CUDA.CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
    });
    this.#call('cuMemSetAccess', address, bytes, access, 1);
    return true;
  }

  /** Takes away what `map` has put there; it may wait as `map` does. */
  unmap(address: DeviceAddress, bytes: number): void {
    this.#call('cuMemUnmap', address, bytes);
  }

  /** Calls `f`, and resolves when the device has done what it asked for. @returns milliseconds of the device */
  async time(f: () => void): Promise<number> {
    const begin = this.mark();
    f();
    const end = this.mark();
    const milliseconds = await this.elapsed(begin, end);
    for (const event of [begin, end]) this.forget(event);
    return milliseconds;
  }

  /** An event that the device comes to after all that was asked for until now, and notes the time of. */
  mark(): EventHandle {
    return this.#event();
  }

  /** Resolves when the device has come to both. @returns milliseconds between them */
  async elapsed(begin: EventHandle, end: EventHandle): Promise<number> {
    for (const event of [begin, end]) await this.#reached(event);
    const milliseconds = new Float32Array(new ArrayBuffer(4));
    this.#call('cuEventElapsedTime', milliseconds, begin, end);
    return milliseconds[0]!;
  }

  forget(event: EventHandle): void {
    this.#call('cuEventDestroy', event);
  }

  /** Resolves when all that was asked for until now is done; other JavaScript runs meanwhile. @throws as `synchronize` */
  async done(): Promise<void> {
    const event = this.#event();
    await this.#reached(event);
    this.#call('cuEventDestroy', event);
  }

  #event(flags = 0): EventHandle {
    const event = this.#handle('cuEventCreate', flags) as EventHandle;
    this.#call('cuEventRecord', event, this.#stream);
    return event;
  }

  async #reached(event: EventHandle): Promise<void> {
    this.#leftWaits.follow();
    while (!this.#isReached(event)) await setImmediate();
  }

  #isReached(event: EventHandle): boolean {
    const code = this.#functions.cuEventQuery(event);
    if (code === CUDA.CUDA_ERROR_NOT_READY) return false;
    this.#check('cuEventQuery', code);
    return true;
  }

  /** Waits until all that was asked for is done. @throws what ends a wait that was left to the device (`leaveWait`) */
  synchronize(): void {
    this.#leftWaits.follow();
    this.#call('cuStreamSynchronize', this.#stream);
  }

  /** One whose work runs beside that of others. */
  makeStream(): StreamHandle {
    return this.#handle('cuStreamCreate', CUDA.CU_STREAM_NON_BLOCKING) as StreamHandle;
  }

  /**
   * What `f` asks for is done on another stream, after all that was asked for on this one until now.
   * @returns when it is done
   */
  beside(stream: StreamHandle, f: () => void): Moment {
    const before = this.moment();
    return this.#on(stream, () => {
      before.precede();
      before.forget();
      f();
      return this.moment();
    });
  }

  #on<T>(stream: StreamHandle, f: () => T): T {
    const before = this.#stream;
    this.#stream = stream;
    try {
      return f();
    } finally {
      this.#stream = before;
    }
  }

  /**
   * What is asked for from now on, but beside other work, is done after `moment`, which other processes bring about; the host goes on. Before
   * it waits for the device, for whatever reason, it waits by `watch`, which throws where they never do.
   */
  leaveWait(moment: Moment, watch: () => void): void {
    this.#on(this.#usual, () => {
      this.#leftWaits.add(this.moment(), watch);
      moment.precede();
    });
  }

  /** When all that was asked for until now, on one stream, is done. */
  moment(): Moment {
    let event: EventHandle | undefined = this.#event(CUDA.CU_EVENT_DISABLE_TIMING);
    const forget = () => {
      if (event !== undefined) this.#call('cuEventDestroy', event);
      event = undefined;
    };
    return {
      isReached: () => {
        if (event !== undefined && this.#isReached(event)) forget();
        return event === undefined;
      },
      wait: () => {
        if (event === undefined) return;
        this.#call('cuEventSynchronize', event);
        forget();
      },
      precede: () => {
        if (event !== undefined) this.#call('cuStreamWaitEvent', this.#stream, event, 0);
      },
      forget,
    };
  }

  /** @param bytes above 0 @returns the address of memory of arbitrary content; undefined where the device has no more */
  allocate(bytes: number): DeviceAddress | undefined {
    const address = handle();
    const code = this.#functions.cuMemAlloc(address, bytes);
    if (code === CUDA.CUDA_ERROR_OUT_OF_MEMORY) return undefined;
    this.#check('cuMemAlloc', code);
    return Number(address[0]);
  }

  free(address: DeviceAddress): void {
    this.#call('cuMemFree', address);
  }

  /**
   * Memory of the host that stays where it is, so that kernels reach it by the same address, over the bus.
   * @param bytes above 0 @returns undefined where the host has no more
   */
  allocateOnHost(bytes: number): DeviceAddress | undefined {
    this.#leftWaits.follow();
    const address = handle();
    const code = this.#functions.cuMemHostAlloc(address, bytes, CUDA.CU_MEMHOSTALLOC_DEVICEMAP);
    if (code === CUDA.CUDA_ERROR_OUT_OF_MEMORY) return undefined;
    this.#check('cuMemHostAlloc', code);
    return Number(address[0]);
  }

  freeOnHost(address: DeviceAddress): void {
    this.#call('cuMemFreeHost', address);
  }

  /** Copies from the host, whose memory may be changed afterwards. */
  write(to: DeviceAddress, values: NodeJS.ArrayBufferView): void {
    if (values.byteLength > WAITING_BYTES) this.#leftWaits.follow();
    if (values.byteLength === 0) return;
    this.#call('cuMemcpyHtoDAsync', to, values, values.byteLength, this.#stream);
    this.#readsHostPages ??= this.#attribute('readsHostPages') !== 0;
    if (this.#readsHostPages) this.synchronize();
  }

  /** Copies to the host, when all before is done. @throws as `synchronize` */
  read(values: NodeJS.ArrayBufferView, from: DeviceAddress): void {
    this.#leftWaits.follow();
    if (values.byteLength > 0) this.#call('cuMemcpyDtoHAsync', values, from, values.byteLength, this.#stream);
    this.synchronize();
  }

  /** Between places that the device reaches: its own memory, and what `allocateOnHost` gave. */
  copy(to: DeviceAddress, from: DeviceAddress, bytes: number): void {
    if (bytes > 0) this.#call('cuMemcpyAsync', to, from, bytes, this.#stream);
  }

  /** @param word 32 bits, which are written `count` times */
  fill(to: DeviceAddress, word: number, count: number): void {
    if (count > 0) this.#call('cuMemsetD32Async', to, word, count, this.#stream);
  }

  /** The same of 16 bits. */
  fillHalves(to: DeviceAddress, half: number, count: number): void {
    if (count > 0) this.#call('cuMemsetD16Async', to, half, count, this.#stream);
  }

  /**
   * @param image a cubin; for the emulator, the path of a shared object, ended by a zero
   * @param name of its source, for whom it concerns
   */
  loadModule(image: Uint8Array, name: string): ModuleHandle {
    this.#leftWaits.follow();
    const module = handle();
    const code = this.#functions.cuModuleLoadData(module, image);
    if (code !== 0) throw this.#failure(`cuModuleLoadData of ${name}`, code);
    return Number(module[0]) as ModuleHandle;
  }

  /** @param sharedBytes most that a launch will ask for */
  getFunction(module: ModuleHandle, name: string, sharedBytes: number): FunctionHandle {
    this.#leftWaits.follow();
    const kernel = this.#handle('cuModuleGetFunction', module, name) as FunctionHandle;
    if (sharedBytes > USUAL_SHARED_BYTES)
      this.#call(
        'cuFuncSetAttribute',
        kernel,
        CUDA.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
        sharedBytes,
      );
    return kernel;
  }

  /** The bytes of a `CUtensorMap`: of tiles with the 128-byte swizzle, zeros beyond the end. */
  encodeTensorMap({ address, storage, sizes, strides, box }: TensorMapShape): Uint8Array {
    const type = TENSOR_TYPES[storage];
    invariant(type !== undefined, `tiles of ${storage}`);
    const bytes = new Uint8Array(new ArrayBuffer(TENSOR_MAP_BYTES + TENSOR_MAP_ALIGNMENT));
    const at = Number(koffi.address(bytes));
    const begin = -at & (TENSOR_MAP_ALIGNMENT - 1);
    this.#call(
      'cuTensorMapEncodeTiled',
      ...[at + begin, type, sizes.length, address],
      ...[BigUint64Array.from(sizes, BigInt), BigUint64Array.from(strides, BigInt)],
      ...[Uint32Array.from(box), new Uint32Array(sizes.length).fill(1)],
      ...TENSOR_OPTIONS,
    );
    return bytes.slice(begin, begin + TENSOR_MAP_BYTES);
  }

  /** Bytes of each parameter of a kernel, as its machine code has them; undefined where the driver does not tell. */
  parameterBytes(kernel: FunctionHandle): number[] | undefined {
    if (!this.#parameters) return undefined;
    const [all, place, bytes] = [[] as number[], handle(), handle()];
    for (;;) {
      const code = this.#parameters.cuFuncGetParamInfo(kernel, all.length, place, bytes);
      if (code === CUDA.CUDA_ERROR_INVALID_VALUE) return all;
      this.#check('cuFuncGetParamInfo', code);
      all.push(Number(bytes[0]));
    }
  }

  /** @param places where in `arguments` those of a kernel begin */
  argumentPointers(places: readonly number[]): ArgumentPointers {
    const pointers = new BigUint64Array(new ArrayBuffer(8 * places.length));
    pointers.set(places.map((place) => BigInt(this.#argumentAddress + place)));
    return { pointers, address: Number(koffi.address(pointers)) };
  }

  /**
   * Arguments go by a pointer to each, and not as one block: where they lie is the compiler's to say, and for Hopper's kernels it has tensor
   * maps elsewhere than a block that begins with them would.
   * @param name of the kernel, for whom it concerns
   */
  launch(
    name: string,
    kernel: FunctionHandle,
    [x, y = 1, z = 1]: Grid,
    threads: number,
    sharedBytes: number,
    { address }: ArgumentPointers,
  ): void {
    this.#leftWaits.countLaunch();
    const { cuLaunchKernel } = this.#functions;
    const code = cuLaunchKernel(kernel, x, y, z, threads, 1, 1, sharedBytes, this.#stream, address, 0);
    if (code !== 0) throw this.#failure(`cuLaunchKernel of ${name}`, code);
  }
}
