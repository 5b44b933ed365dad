/**
 * NCCL through koffi. Bytes are sent by it, and nothing is added up: the order of its sums depends on the number of GPUs, on sizes
 * and on how they are connected. Communicators do not block: whoever waits can look meanwhile whether the others are there.
 */

import { SluiceError } from '@sluice/core';
import koffi, { type TypeObject } from 'koffi';
import type { DeviceAddress, StreamHandle } from './driver.ts';
import type { Declares } from './driverFunctions.ts';
import { LAYOUTS, NCCL } from './header.ts';

export type CommunicatorHandle = number & { readonly communicator: unique symbol };

/** Of `ncclUniqueId`. */
export const NAME_WORDS = NCCL.NCCL_UNIQUE_ID_BYTES / 4;
/** Of `ncclConfig_t` what version 2.14 had, which all later ones take: so many bytes, by that version. */
const CONFIG = { bytes: 24, version: 21400 };

/** Bytes to and from a peer, a rank of the communicator; none where there is nothing to send, or to receive. */
export interface Transfer {
  readonly peer: number;
  readonly send: { readonly address: DeviceAddress; readonly bytes: number };
  readonly receive: { readonly address: DeviceAddress; readonly bytes: number };
}

/** @param uniqueId a struct of that name, which is handed over by value */
export function ncclFunctions(library: Declares, uniqueId: string | TypeObject) {
  const define = (name: string, ...parameters: (string | TypeObject)[]) =>
    library.func(name, 'int', parameters) as (...args: unknown[]) => number;
  return {
    ncclGetVersion: define('ncclGetVersion', 'void *'),
    ncclGetUniqueId: define('ncclGetUniqueId', 'void *'),
    ncclCommInitRankConfig: define('ncclCommInitRankConfig', 'void *', 'int', uniqueId, 'int', 'void *'),
    ncclCommGetAsyncError: define('ncclCommGetAsyncError', 'uintptr_t', 'void *'),
    ncclCommAbort: define('ncclCommAbort', 'uintptr_t'),
    ncclGroupStart: define('ncclGroupStart'),
    ncclGroupEnd: define('ncclGroupEnd'),
    ncclSend: define('ncclSend', 'uint64_t', 'size_t', 'int', 'int', 'uintptr_t', 'uintptr_t'),
    ncclRecv: define('ncclRecv', 'uint64_t', 'size_t', 'int', 'int', 'uintptr_t', 'uintptr_t'),
    ncclGetErrorString: library.func('ncclGetErrorString', 'str', ['int']) as (code: number) => string,
    ncclGetLastError: library.func('ncclGetLastError', 'str', ['uintptr_t']) as (
      communicator: number,
    ) => string,
  };
}

/** @param version as 23203 for 2.32.3 */
export function ncclVersion(version: number): string {
  const [major, minor, patch] = [version / 10_000, (version / 100) % 100, version % 100].map(Math.floor);
  return `NCCL ${major}.${minor}.${patch}`;
}

type Functions = ReturnType<typeof ncclFunctions>;
type Call = Exclude<keyof Functions, 'ncclGetErrorString' | 'ncclGetLastError'>;

export class Nccl {
  readonly #functions: Functions;
  /** As 23203 for 2.32.3. */
  readonly version: number;

  /**
   * @param path of the library, or its name where the system finds it
   * @throws SLUICE_E_NCCL
   */
  constructor(path: string) {
    try {
      const uniqueId = koffi.struct({ words: koffi.array('int32_t', NAME_WORDS, 'Typed') });
      this.#functions = ncclFunctions(koffi.load(path), uniqueId);
    } catch (error) {
      throw new SluiceError('SLUICE_E_NCCL', `NCCL cannot be opened: ${(error as Error).message}`);
    }
    const version = new Int32Array(new ArrayBuffer(4));
    this.#call('ncclGetVersion', version);
    this.version = version[0]!;
  }

  /** @throws unless it went well, or is still going on */
  #call(name: Call, ...args: unknown[]): void {
    const code = this.#functions[name](...args);
    if (code !== NCCL.ncclSuccess && code !== NCCL.ncclInProgress) throw this.#failure(name, code, 0);
  }

  #failure(call: string, code: number, communicator: number): SluiceError {
    const text = this.#functions.ncclGetErrorString(code);
    const more = this.#functions.ncclGetLastError(communicator);
    return new SluiceError('SLUICE_E_NCCL', `${call} failed: ${text}${more ? ` (${more})` : ''}.`);
  }

  /** By which the ranks of a communicator find each other. */
  newName(): Int32Array {
    const name = new Int32Array(new ArrayBuffer(4 * NAME_WORDS));
    this.#call('ncclGetUniqueId', name);
    return name;
  }

  /** Begins to connect with the other ranks, each of which computes on a device of its own; see `isReady`. */
  connect(name: Int32Array, rank: number, size: number): CommunicatorHandle {
    const config = new DataView(new ArrayBuffer(CONFIG.bytes));
    const { size: bytes, magic, version, blocking, cgaClusterSize } = LAYOUTS.ncclConfig_t.members;
    config.setBigUint64(bytes, BigInt(CONFIG.bytes), true);
    config.setUint32(magic, NCCL.NCCL_API_MAGIC, true);
    config.setUint32(version, CONFIG.version, true);
    config.setInt32(blocking, 0, true);
    config.setInt32(cgaClusterSize, NCCL.NCCL_CONFIG_UNDEF_INT, true);
    const handle = new BigUint64Array(new ArrayBuffer(8));
    const options = new Uint8Array(config.buffer);
    this.#call('ncclCommInitRankConfig', handle, size, { words: name }, rank, options);
    return Number(handle[0]) as CommunicatorHandle;
  }

  /** Whether the last thing asked for is on its stream. @throws SLUICE_E_NCCL with what went wrong since */
  isReady(communicator: CommunicatorHandle): boolean {
    const state = new Int32Array(new ArrayBuffer(4));
    this.#call('ncclCommGetAsyncError', communicator, state);
    if (state[0] === NCCL.ncclInProgress) return false;
    if (state[0] !== NCCL.ncclSuccess) throw this.#failure('NCCL', state[0]!, communicator);
    return true;
  }

  /**
   * Asks for all transfers, as one operation. Sends and receives of two ranks match in their order.
   * Nothing else may be asked for, nor an event be recorded, until `isReady`.
   */
  exchange(communicator: CommunicatorHandle, transfers: readonly Transfer[], stream: StreamHandle): void {
    this.#call('ncclGroupStart');
    try {
      for (const { peer, send, receive } of transfers) {
        const how = [NCCL.ncclInt8, peer, communicator, stream];
        if (send.bytes > 0) this.#call('ncclSend', send.address, send.bytes, ...how);
        if (receive.bytes > 0) this.#call('ncclRecv', receive.address, receive.bytes, ...how);
      }
    } catch (error) {
      this.#functions.ncclGroupEnd();
      throw error;
    }
    this.#call('ncclGroupEnd');
  }

  /** Ends what is under way, and the communicator. */
  abort(communicator: CommunicatorHandle): void {
    this.#call('ncclCommAbort', communicator);
  }
}
