/** Reading safetensors files: any range of any tensor, by position, without reading the rest. */

import { type FileHandle, open } from 'node:fs/promises';
import { invariant, SluiceError, sha256 } from '@sluice/core';
import { type Dtype, ITEM_BYTES } from './safetensors.ts';

export interface TensorInfo {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Where its bytes begin in the file. */
  readonly offset: number;
  readonly byteLength: number;
}

/** The format's own limit. */
const MAXIMUM_HEADER_BYTES = 100_000_000;

/** Elements that are converted at a time. */
const CHUNK_ELEMENTS = 1 << 18;

function invalid(path: string, reason: string, cause?: unknown): SluiceError {
  return new SluiceError(
    'SLUICE_E_SAFETENSORS_INVALID',
    `${path} is not a valid safetensors file: ${reason}.`,
    {
      details: { path, reason },
      cause,
    },
  );
}

/** Opens a file for reading; what the operating system refuses is SLUICE_E_FILE_MISSING. */
export async function openForReading(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const reason = code === 'ENOENT' || code === 'ENOTDIR' ? 'does not exist' : `cannot be read (${code})`;
    throw new SluiceError('SLUICE_E_FILE_MISSING', `The file ${path} ${reason}.`, {
      details: { path, errno: code },
      cause: error,
    });
  }
}

/** Fills `target` from `position`; false when the file ends before. */
export async function readFully(handle: FileHandle, target: Uint8Array, position: number): Promise<boolean> {
  for (let done = 0; done < target.length; ) {
    const { bytesRead } = await handle.read(target, done, target.length - done, position + done);
    if (bytesRead === 0) return false;
    done += bytesRead;
  }
  return true;
}

const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** An entry of the header, checked, or undefined when it is malformed. */
function parseEntry(value: unknown, dataStart: number): TensorInfo | undefined {
  const { dtype, shape, data_offsets } = (value ?? {}) as Record<string, unknown>;
  if (typeof dtype !== 'string' || !Object.hasOwn(ITEM_BYTES, dtype)) return undefined;
  if (!Array.isArray(shape) || !shape.every(isSize)) return undefined;
  if (!Array.isArray(data_offsets) || data_offsets.length !== 2 || !data_offsets.every(isSize))
    return undefined;
  const [begin, end] = data_offsets as [number, number];
  const byteLength = shape.reduce(
    (product: number, size: number) => product * size,
    ITEM_BYTES[dtype as Dtype],
  );
  if (end - begin !== byteLength) return undefined;
  return { dtype: dtype as Dtype, shape, offset: dataStart + begin, byteLength };
}

/** Reads the header and its length, raw; a reason when there is none. */
export async function readHeader(handle: FileHandle, size: number): Promise<Buffer | string> {
  const prefix = Buffer.alloc(8);
  if (size < 8 || !(await readFully(handle, prefix, 0))) return 'it is shorter than 8 bytes';
  const length = Number(prefix.readBigUInt64LE(0));
  if (length > MAXIMUM_HEADER_BYTES) return `its header claims ${length} bytes, more than the format allows`;
  if (8 + length > size) return `its header of ${length} bytes goes beyond its end`;
  const header = Buffer.alloc(8 + length);
  return (await readFully(handle, header, 0)) ? header : 'it ended while its header was read';
}

/** A safetensors file that is open for reading. */
export class SafetensorsFile {
  readonly path: string;
  readonly size: number;
  /** SHA-256 of the header with its length. */
  readonly headerHash: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly #handle: FileHandle;

  private constructor(path: string, handle: FileHandle, size: number, header: Buffer) {
    this.path = path;
    this.size = size;
    this.headerHash = sha256(header);
    this.#handle = handle;
    let json: unknown;
    try {
      json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(header.subarray(8)));
    } catch (error) {
      throw invalid(path, 'its header is not JSON', error);
    }
    if (header[8] !== 0x7b || typeof json !== 'object' || json === null)
      throw invalid(path, 'its header is no object');
    const { __metadata__: metadata = {}, ...entries } = json as Record<string, unknown>;
    if (
      typeof metadata !== 'object' ||
      !Object.values(metadata ?? {}).every((text) => typeof text === 'string')
    ) {
      throw invalid(path, 'its __metadata__ is not a map of text');
    }
    this.metadata = (metadata ?? {}) as Record<string, string>;
    this.tensors = new Map(
      Object.entries(entries).map(([name, value]) => {
        const info = parseEntry(value, header.length);
        if (info === undefined) throw invalid(path, `the entry of ${name} is ${JSON.stringify(value)}`);
        return [name, info];
      }),
    );
    this.#checkTiling(header.length);
  }

  /** The tensors' bytes must fill the rest of the file, each byte in one tensor. */
  #checkTiling(dataStart: number): void {
    let position = dataStart;
    const inOrder = [...this.tensors].sort(
      ([, a], [, b]) => a.offset - b.offset || a.byteLength - b.byteLength,
    );
    for (const [name, { offset, byteLength }] of inOrder) {
      if (offset !== position)
        throw invalid(this.path, `${name} begins at byte ${offset}, not at ${position}`);
      position += byteLength;
    }
    if (position !== this.size)
      throw invalid(this.path, `it has ${this.size} bytes, its tensors end at ${position}`);
  }

  /** @throws SLUICE_E_FILE_MISSING, SLUICE_E_SAFETENSORS_INVALID */
  static async open(path: string): Promise<SafetensorsFile> {
    const handle = await openForReading(path);
    try {
      const { size } = await handle.stat();
      const header = await readHeader(handle, size);
      if (typeof header === 'string') throw invalid(path, header);
      return new SafetensorsFile(path, handle, size, header);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  #info(name: string): TensorInfo {
    const info = this.tensors.get(name);
    if (info === undefined) {
      throw new SluiceError('SLUICE_E_CHECKPOINT_MISMATCH', `${this.path} holds no tensor ${name}.`, {
        details: { path: this.path, tensor: name },
      });
    }
    return info;
  }

  async #read(target: Uint8Array, position: number): Promise<void> {
    if (!(await readFully(this.#handle, target, position)))
      throw invalid(this.path, 'it was cut while it was read');
  }

  /**
   * Reads elements [begin, begin + target.length) of a flattened tensor of F32, F16, BF16 or F64 as 32-bit floats.
   * @throws SLUICE_E_CHECKPOINT_MISMATCH for an unknown name or another type
   */
  async readFloats(name: string, target: Float32Array, begin = 0): Promise<void> {
    const { dtype, offset, byteLength } = this.#info(name);
    const itemBytes = ITEM_BYTES[dtype];
    invariant((begin + target.length) * itemBytes <= byteLength, `a read beyond the end of ${name}`);
    for (let done = 0; done < target.length; done += CHUNK_ELEMENTS) {
      const part = target.subarray(done, done + CHUNK_ELEMENTS);
      const position = offset + (begin + done) * itemBytes;
      if (dtype === 'F32') {
        await this.#read(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), position);
      } else {
        const convert = FLOAT_CONVERSIONS[dtype];
        if (convert === undefined) throw this.#typeError(name, dtype, 'floats');
        const bytes = new Uint8Array(part.length * itemBytes);
        await this.#read(bytes, position);
        convert(bytes.buffer, part);
      }
    }
  }

  /**
   * Reads a whole tensor of I64, I32, I16, I8, U8, U16, U32 or BOOL as numbers.
   * @throws SLUICE_E_CHECKPOINT_MISMATCH for an unknown name, another type, or a number beyond 2^53
   */
  async readIntegers(name: string): Promise<number[]> {
    const { dtype, offset, byteLength } = this.#info(name);
    const bytes = new Uint8Array(byteLength);
    await this.#read(bytes, offset);
    const view = INTEGER_VIEWS[dtype]?.(bytes.buffer);
    const numbers = view && Array.from<number | bigint, number>(view, Number);
    if (numbers === undefined || !numbers.every(Number.isSafeInteger))
      throw this.#typeError(name, dtype, 'integers');
    return numbers;
  }

  #typeError(name: string, dtype: Dtype, wanted: string): SluiceError {
    return new SluiceError(
      'SLUICE_E_CHECKPOINT_MISMATCH',
      `${name} in ${this.path} is of type ${dtype}, which cannot be read as ${wanted}.`,
      { details: { path: this.path, tensor: name, dtype } },
    );
  }
}

type FloatConversion = (bytes: ArrayBuffer, target: Float32Array) => void;

/** Widens IEEE half precision by building the single-precision bits. */
function halfToFloat(bytes: ArrayBuffer, target: Float32Array): void {
  const halves = new Uint16Array(bytes);
  const bits = new Uint32Array(target.buffer, target.byteOffset, target.length);
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i]!;
    const sign = (half & 0x8000) << 16;
    const exponent = (half >>> 10) & 0x1f;
    const fraction = half & 0x3ff;
    if (exponent === 0) target[i] = (sign < 0 ? -1 : 1) * fraction * 2 ** -24;
    // 112 is the difference of the exponents' biases, 127 − 15; infinities and NaNs have all bits set.
    else bits[i] = (sign | ((exponent === 31 ? 255 : exponent + 112) << 23) | (fraction << 13)) >>> 0;
  }
}

/** A brain float is the upper half of a single-precision one. */
function brainToFloat(bytes: ArrayBuffer, target: Float32Array): void {
  const halves = new Uint16Array(bytes);
  const bits = new Uint32Array(target.buffer, target.byteOffset, target.length);
  for (let i = 0; i < halves.length; i++) bits[i] = halves[i]! << 16;
}

const FLOAT_CONVERSIONS: { readonly [dtype in Dtype]?: FloatConversion } = {
  F64: (bytes, target) => target.set(new Float64Array(bytes)),
  F16: halfToFloat,
  BF16: brainToFloat,
};

const INTEGER_VIEWS: { readonly [dtype in Dtype]?: (bytes: ArrayBuffer) => ArrayLike<number | bigint> } = {
  I64: (bytes) => new BigInt64Array(bytes),
  I32: (bytes) => new Int32Array(bytes),
  I16: (bytes) => new Int16Array(bytes),
  I8: (bytes) => new Int8Array(bytes),
  U32: (bytes) => new Uint32Array(bytes),
  U16: (bytes) => new Uint16Array(bytes),
  U8: (bytes) => new Uint8Array(bytes),
  BOOL: (bytes) => new Uint8Array(bytes),
};
