/** Reading a checkpoint: any range of any logical tensor, from whatever pieces it was saved in. */

import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { BLOCK_ELEMENTS, inParallel, invariant, SluiceError, sha256 } from '@sluice/core';
import { type ContentHashes, hashTensors } from './contentHash.ts';
import { type Manifest, readManifest } from './manifest.ts';
import { openForReading, readFully } from './safetensorsReader.ts';
import { type HashedPiece, numElements, packHashes, storedName, type TensorKind } from './tensors.ts';
import { verifyContent } from './verify.ts';
import { BLOCKS_PER_READ, type CheckpointProblem, rehashShard } from './verifyShard.ts';

interface StoredPiece extends Omit<HashedPiece, 'hashes'> {
  readonly file: string;
  readonly offset: number;
  /** SHA-256 of each block, 32 bytes each. */
  readonly hashes: Buffer;
}

const HASH_BYTES = 32;

export interface OpenOptions {
  /** Whether the whole content is verified before anything is read; not by default, since each read is verified. */
  readonly verify?: boolean;
  /** Whether what is read is hashed and compared; so by default. */
  readonly verifyReads?: boolean;
}

function damaged(directory: string, problems: readonly CheckpointProblem[]): SluiceError {
  const message = `${directory} is damaged: ${problems.map((problem) => problem.message).join('; ')}.`;
  return new SluiceError('SLUICE_E_CHECKPOINT_DAMAGED', message, { details: { directory, problems } });
}

function mismatch(directory: string, faults: readonly string[]): SluiceError {
  const message = `${directory} does not hold what was asked of it: ${faults.join('; ')}.`;
  return new SluiceError('SLUICE_E_CHECKPOINT_MISMATCH', message, { details: { directory, faults } });
}

/** Reads of a tensor that are under way at once, straight into their places: storage is kept busy while one is hashed. */
const READS_AT_ONCE = 8;

/** Elements [begin, end) of a tensor that are read together: whole blocks, or a part of one. */
interface ReadPart {
  readonly begin: number;
  readonly end: number;
  readonly isPartial: boolean;
}

function* partsOf(piece: StoredPiece, from: number, to: number): Generator<ReadPart> {
  const wholeEnd = to === piece.end ? to : to - (to % BLOCK_ELEMENTS);
  for (let begin = from; begin < to; ) {
    const blockBegin = begin - (begin % BLOCK_ELEMENTS);
    const isPartial = begin !== blockBegin || begin >= wholeEnd;
    const end = isPartial
      ? Math.min(blockBegin + BLOCK_ELEMENTS, piece.end, to)
      : Math.min(wholeEnd, begin + BLOCKS_PER_READ * BLOCK_ELEMENTS);
    yield { begin, end, isPartial };
    begin = end;
  }
}

/** A checkpoint that is open for reading. Several reads may be under way at once. */
export class CheckpointReader {
  readonly directory: string;
  readonly manifest: Manifest;
  readonly #verifyReads: boolean;
  readonly #pieces = new Map<string, StoredPiece[]>();
  readonly #shapes: ReadonlyMap<string, readonly number[]>;
  readonly #handles = new Map<string, Promise<FileHandle>>();

  constructor(directory: string, manifest: Manifest, verifyReads: boolean) {
    this.directory = directory;
    this.manifest = manifest;
    this.#verifyReads = verifyReads;
    this.#shapes = new Map(manifest.tensors.map(({ name, shape }) => [name, shape]));
    for (const { file, pieces } of manifest.shards) {
      for (const piece of pieces) {
        const name = storedName(piece.kind, piece.tensor);
        const list = this.#pieces.get(name) ?? [];
        list.push({ ...piece, file, hashes: Buffer.from(piece.hashes, 'base64') });
        this.#pieces.set(name, list);
      }
    }
    for (const list of this.#pieces.values()) list.sort((a, b) => a.begin - b.begin);
  }

  /**
   * Reads elements [begin, end) of a flattened logical tensor, in whatever pieces they lie. Ranges that begin and end
   * on borders of blocks are read straight into `target`, which may lie in shared memory.
   * @param target of `end - begin` elements
   * @throws SLUICE_E_CHECKPOINT_DAMAGED for content that is not what was saved, SLUICE_E_CHECKPOINT_MISMATCH when
   *   there is no such tensor, kind or range
   */
  async readRange(
    kind: TensorKind,
    tensorName: string,
    begin: number,
    end: number,
    target: Float32Array,
  ): Promise<void> {
    const name = storedName(kind, tensorName);
    const pieces = this.#pieces.get(name);
    if (pieces === undefined) throw mismatch(this.directory, [`${name} is not in it`]);
    const count = numElements(this.#shapes.get(tensorName)!);
    if (end > count) throw mismatch(this.directory, [`${name} has ${count} elements, not ${end}`]);
    invariant(
      begin >= 0 && begin <= end && target.length === end - begin,
      `a bad range [${begin}, ${end}) of ${name}`,
    );
    for (const piece of pieces) {
      const from = Math.max(begin, piece.begin);
      const to = Math.min(end, piece.end);
      if (from < to) await this.#readPiece(piece, from, to, target.subarray(from - begin, to - begin));
    }
  }

  /** Reads [from, to), which lies within `piece`. */
  async #readPiece(piece: StoredPiece, from: number, to: number, target: Float32Array): Promise<void> {
    await inParallel(partsOf(piece, from, to), READS_AT_ONCE, async ({ begin, end, isPartial }) => {
      const part = target.subarray(begin - from, end - from);
      if (!isPartial) return this.#readBlocks(piece, begin, part);
      // A part of a block can only be verified with the rest of it.
      const blockBegin = begin - (begin % BLOCK_ELEMENTS);
      const block = new Float32Array(Math.min(BLOCK_ELEMENTS, piece.end - blockBegin));
      await this.#readBlocks(piece, blockBegin, block);
      part.set(block.subarray(begin - blockBegin, end - blockBegin));
    });
  }

  /** Reads whole blocks that begin at element `begin` of the logical tensor, and verifies them. */
  async #readBlocks(piece: StoredPiece, begin: number, values: Float32Array): Promise<void> {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const handle = await this.#handle(piece.file);
    if (!(await readFully(handle, bytes, piece.offset + 4 * (begin - piece.begin)))) {
      const message = `${piece.file} is too short`;
      throw damaged(this.directory, [{ kind: 'size-mismatch', file: piece.file, message }]);
    }
    if (this.#verifyReads) this.#checkBlocks(piece, begin / BLOCK_ELEMENTS, bytes);
  }

  #checkBlocks(piece: StoredPiece, firstBlock: number, bytes: Uint8Array): void {
    const blocks = Math.ceil(bytes.length / (4 * BLOCK_ELEMENTS));
    const first = firstBlock - piece.begin / BLOCK_ELEMENTS;
    const expected = (i: number) =>
      piece.hashes.toString('hex', HASH_BYTES * (first + i), HASH_BYTES * (first + i + 1));
    for (let i = 0; i < blocks; i++) {
      const at = 4 * BLOCK_ELEMENTS * i;
      if (sha256(bytes.subarray(at, at + 4 * BLOCK_ELEMENTS)) === expected(i)) continue;
      const tensor = storedName(piece.kind, piece.tensor);
      const block = firstBlock + i;
      const message = `the hash of block ${block} of ${tensor} in ${piece.file} does not match`;
      throw damaged(this.directory, [{ kind: 'block-damaged', file: piece.file, tensor, block, message }]);
    }
  }

  #handle(file: string): Promise<FileHandle> {
    let handle = this.#handles.get(file);
    if (handle === undefined) {
      handle = openForReading(join(this.directory, file));
      this.#handles.set(file, handle);
    }
    return handle;
  }

  /** Closes the files; reads that are under way fail. */
  async close(): Promise<void> {
    const handles = [...this.#handles.values()];
    this.#handles.clear();
    await Promise.allSettled(handles.map(async (handle) => (await handle).close()));
  }
}

/**
 * Opens a checkpoint. Its manifest, and the sizes and headers of its files, are always verified.
 * @throws SLUICE_E_CHECKPOINT_INCOMPLETE, SLUICE_E_CHECKPOINT_DAMAGED, SLUICE_E_CHECKPOINT_VERSION
 */
export async function openCheckpoint(
  directory: string,
  options: OpenOptions = {},
): Promise<CheckpointReader> {
  const { verify = false, verifyReads = true } = options;
  const manifest = await readManifest(directory);
  const problems = await verifyContent(directory, manifest, { deep: verify });
  if (problems.length > 0) throw damaged(directory, problems);
  return new CheckpointReader(directory, manifest, verifyReads);
}

/**
 * Hashes what the files of a checkpoint really hold; the same for any number of shards.
 * @returns the hashes, and whether they are those that were saved
 * @throws SLUICE_E_CHECKPOINT_INCOMPLETE, SLUICE_E_CHECKPOINT_VERSION, and SLUICE_E_CHECKPOINT_DAMAGED when the
 *   manifest or a file's size or header is not what was saved
 */
export async function hashCheckpoint(
  directory: string,
): Promise<ContentHashes & { readonly matchesManifest: boolean }> {
  const { manifest } = await openCheckpoint(directory);
  const pieces: HashedPiece[] = [];
  for (const shard of manifest.shards) {
    const handle = await openForReading(join(directory, shard.file));
    try {
      const hashes = await rehashShard(handle, shard);
      pieces.push(...shard.pieces.map((piece, i) => ({ ...piece, hashes: packHashes(hashes[i]!) })));
    } finally {
      await handle.close();
    }
  }
  const hashes = hashTensors(manifest.tensors, pieces, manifest.kinds);
  const matchesManifest =
    hashes.weights === manifest.hashes.weights && hashes.optimizer === manifest.hashes.optimizer;
  return { ...hashes, matchesManifest };
}
