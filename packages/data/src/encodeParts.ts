import type { SplitPart } from './documents.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';

/** Text that is encoded at once: enough for every core to have some, little enough for a signal to be seen soon. */
const BATCH_BYTES = 1 << 18;

/** The parts of documents with their tokens, in order. While one batch is encoded, the next is read. */
export async function* encodeParts(
  tokenizer: Tokenizer,
  parts: AsyncIterable<SplitPart>,
): AsyncGenerator<[part: SplitPart, tokens: number[]]> {
  let pending: Promise<[SplitPart, number[]][]> | undefined;
  for await (const batch of batches(parts)) {
    const encoded = await pending;
    pending = encodeBatch(tokenizer, batch);
    // Whether it fails is seen when it is awaited, one batch later.
    pending.catch(() => {});
    yield* encoded ?? [];
  }
  yield* (await pending) ?? [];
}

async function encodeBatch(
  tokenizer: Tokenizer,
  batch: readonly SplitPart[],
): Promise<[SplitPart, number[]][]> {
  const encoded = await tokenizer.encodeCorpus(batch);
  return batch.map((part, i) => [part, encoded[i]!]);
}

async function* batches(parts: AsyncIterable<SplitPart>): AsyncGenerator<SplitPart[]> {
  let batch: SplitPart[] = [];
  let bytes = 0;
  for await (const part of parts) {
    batch.push(part);
    bytes += part.bytes;
    if (bytes < BATCH_BYTES) continue;
    yield batch;
    batch = [];
    bytes = 0;
  }
  if (batch.length > 0) yield batch;
}
