/**
 * The safetensors format (https://github.com/huggingface/safetensors): 8 bytes with the length of a JSON header, the
 * header, and the tensors' bytes, little-endian, without gaps. Written and read through bounded buffers; offsets may
 * be as large as a file can be.
 */

import { BLOCK_ELEMENTS, createFile, type FileOperations, invariant, nodeFiles, sha256 } from '@sluice/core';

/** Bytes of one element. */
export const ITEM_BYTES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
} as const;

export type Dtype = keyof typeof ITEM_BYTES;

export interface TensorData {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** All its bytes, or a function that gives them part after part, for tensors that are not to be in memory whole. */
  readonly values: ArrayBufferView | (() => AsyncIterable<ArrayBufferView>);
}

export interface WrittenFile {
  readonly size: number;
  /** SHA-256 of the header with its length. */
  readonly headerHash: string;
  /** Where each tensor's bytes begin in the file, in the order given. */
  readonly offsets: readonly number[];
}

export interface WriteSafetensorsOptions {
  /** Text that is kept in the header under `__metadata__`. */
  readonly metadata?: Readonly<Record<string, string>>;
  /**
   * Sees the bytes of each tensor as they are written, one block of BLOCK_ELEMENTS × 4 bytes at a time (the last of a
   * tensor, or of a part of one, may be shorter). What it sees is what goes to the disk, even if `values` should change meanwhile.
   */
  readonly onBlock?: (tensor: number, block: Uint8Array) => void;
  readonly files?: FileOperations;
}

const BLOCK_BYTES = BLOCK_ELEMENTS * 4;
const BUFFER_BYTES = 64 * BLOCK_BYTES;

const bytesOf = (view: ArrayBufferView): Uint8Array =>
  new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

function byteLengthOf({ dtype, shape }: Pick<TensorData, 'dtype' | 'shape'>): number {
  return shape.reduce((product, size) => product * size, ITEM_BYTES[dtype]);
}

/** The bytes of a tensor, part after part. */
async function* partsOf(tensor: TensorData): AsyncGenerator<Uint8Array> {
  const { name, values } = tensor;
  let length = 0;
  for await (const part of typeof values === 'function' ? values() : [values]) {
    length += part.byteLength;
    yield bytesOf(part);
  }
  const expected = byteLengthOf(tensor);
  invariant(length === expected, `${name} has ${length} bytes, not ${expected}`);
}

/** The header of a file, with its length before it, padded so that the tensors begin at a multiple of 8 bytes. */
function encodeHeader(tensors: readonly TensorData[], metadata: Readonly<Record<string, string>>): Buffer {
  const entries: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) entries.push(['__metadata__', metadata]);
  let position = 0;
  for (const tensor of tensors) {
    const { name, dtype, shape } = tensor;
    const end = position + byteLengthOf(tensor);
    entries.push([name, { dtype, shape, data_offsets: [position, end] }]);
    position = end;
  }
  invariant(new Set(entries.map(([name]) => name)).size === entries.length, 'two tensors have one name');
  const json = Buffer.from(
    `{${entries.map(([k, v]) => `${JSON.stringify(k)}:${JSON.stringify(v)}`).join(',')}}`,
  );
  const header = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ');
  header.writeBigUInt64LE(BigInt(header.length - 8), 0);
  json.copy(header, 8);
  return header;
}

/**
 * Writes a safetensors file, whole or not at all, and forces it to the disk; the directory is left to the caller.
 * @throws SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE, SLUICE_E_FILE_MISSING (no such directory)
 */
export function writeSafetensors(
  path: string,
  tensors: readonly TensorData[],
  options: WriteSafetensorsOptions = {},
): Promise<WrittenFile> {
  const { metadata = {}, onBlock = () => undefined, files = nodeFiles } = options;
  const header = encodeHeader(tensors, metadata);
  return createFile(
    path,
    async (file) => {
      await file.write(header, 0);
      const buffer = new Uint8Array(BUFFER_BYTES);
      let filled = 0;
      let position = header.length;
      const flush = async () => {
        await file.write(buffer.subarray(0, filled), position);
        position += filled;
        filled = 0;
      };
      const offsets: number[] = [];
      for (const [index, tensor] of tensors.entries()) {
        offsets.push(position + filled);
        for await (const bytes of partsOf(tensor)) {
          for (let start = 0; start < bytes.length; start += BLOCK_BYTES) {
            const length = Math.min(BLOCK_BYTES, bytes.length - start);
            if (filled + length > BUFFER_BYTES) await flush();
            const block = buffer.subarray(filled, filled + length);
            block.set(bytes.subarray(start, start + length));
            onBlock(index, block);
            filled += length;
          }
        }
      }
      if (filled > 0) await flush();
      return { size: position, headerHash: sha256(header), offsets };
    },
    files,
  );
}
