/**
 * Zstandard as RFC 8878 has it: any number of frames one after another, skippable ones among them, checksums verified.
 *
 * The decoder is Zstandard's own, built as WebAssembly. It takes no notice of its errors, so frames are walked here: a piece
 * (the frame's header, a block, the checksum) is handed over when it is whole, and has to be digested at once. That also
 * tells a file that was cut off, and its windows, before memory is taken for them.
 */

import { ZSTDDecoder } from 'zstddec/stream';
import { ByteQueue } from './byteQueue.ts';

const FRAME = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;
/** What the decoder grants, and `zstd` itself without `--long=28` or more. */
const LARGEST_WINDOW = 2 ** 27;
/** A block's content in bytes, at most. */
const LARGEST_BLOCK = 2 ** 17;
/** How often the decoder may give output before it asks for more: a block fills its buffer once, and once in part. */
const OUTPUTS_A_PIECE = 8;

/** @throws Error when the data is damaged, is cut off, or needs a dictionary or more memory than is granted */
export async function* unpackZstandard(packed: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const decoder = new ZSTDDecoder();
  await decoder.init();
  const input = new ByteQueue(packed);
  for (let frames = 0; frames === 0 || (await input.has(1)); frames++) {
    const magic = (await input.peek(4)).readUInt32LE(0);
    if (magic === FRAME) {
      yield* unpackFrame(decoder, input);
    } else if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE) {
      await input.take(4);
      await input.skip((await input.take(4)).readUInt32LE(0));
    } else {
      throw new Error(`byte ${input.position} begins no frame`);
    }
  }
}

async function* unpackFrame(decoder: ZSTDDecoder, input: ByteQueue): AsyncGenerator<Uint8Array> {
  const start = input.position;
  const pieces = framePieces(input);
  let piece: Uint8Array | undefined = (await pieces.next()).value as Uint8Array;
  let outputs = 0;
  function* handOver(): Generator<Uint8Array> {
    while (piece !== undefined) {
      const whole = piece;
      piece = undefined;
      outputs = 0;
      yield whole;
    }
  }
  const output = decoder.decodeStreaming(handOver());
  for (;;) {
    const { value, done } = output.next();
    if (done) return;
    if (++outputs > OUTPUTS_A_PIECE) throw new Error(`the frame at byte ${start} is damaged`);
    if (value.length > 0) yield value;
    if (piece === undefined) {
      const next = await pieces.next();
      if (!next.done) piece = next.value;
    }
  }
}

/** A frame's header, its blocks, and its checksum. */
async function* framePieces(input: ByteQueue): AsyncGenerator<Uint8Array, undefined> {
  const start = input.position;
  const descriptor = (await input.peek(5))[4]!;
  const singleSegment = (descriptor >> 5) & 1;
  const hasChecksum = (descriptor >> 2) & 1;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3]!;
  const sizeBytes = [singleSegment, 2, 4, 8][descriptor >> 6]!;
  const header = await input.take(6 - singleSegment + dictionaryBytes + sizeBytes);
  if (dictionaryBytes > 0 && header.readUIntLE(6 - singleSegment, dictionaryBytes) !== 0)
    throw new Error(`the frame at byte ${start} needs a dictionary`);
  const window = singleSegment ? contentSize(header, sizeBytes) : windowSize(header[5]!);
  if (window > LARGEST_WINDOW) {
    throw new Error(
      `the frame at byte ${start} was made with a window of ${window / 2 ** 20} MiB, and at most ` +
        `${LARGEST_WINDOW / 2 ** 20} are granted: pack it again with zstd --long=27, or without --long`,
    );
  }
  yield header;
  for (let last = false; !last; ) {
    const block = (await input.peek(3)).readUIntLE(0, 3);
    const [kind, size] = [(block >> 1) & 3, block >> 3];
    last = (block & 1) === 1;
    if (kind === 3 || size > LARGEST_BLOCK) throw new Error(`the block at byte ${input.position} is damaged`);
    yield await input.take(3 + (kind === 1 ? 1 : size));
  }
  if (hasChecksum) yield await input.take(4);
  return undefined;
}

function windowSize(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}

/** The size of the content, which is the window of a frame that is one segment. */
function contentSize(header: Buffer, bytes: number): number {
  const at = header.length - bytes;
  if (bytes === 8) return Number(header.readBigUInt64LE(at));
  return header.readUIntLE(at, bytes) + (bytes === 2 ? 256 : 0);
}
