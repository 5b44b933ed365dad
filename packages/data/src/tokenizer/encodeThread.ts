/** The thread behind `SyncEncoder`. */

import { workerData } from 'node:worker_threads';
import { LibraryEncoder, RefusedFile } from './libraryEncoder.ts';
import type { SyncChannel, SyncReply, SyncRequest } from './syncEncoder.ts';

const { port, replies } = workerData as SyncChannel;
const encoders = new Map<number, LibraryEncoder>();

async function answer({ key, json, variant, text }: SyncRequest): Promise<SyncReply> {
  try {
    if (json !== undefined) encoders.set(key, new LibraryEncoder(json));
    const [ids] = await encoders.get(key)!.encode(variant, [text]);
    return { ids: ids! };
  } catch (error) {
    return { error: (error as Error).message, refused: error instanceof RefusedFile };
  }
}

port.on('message', async (request: SyncRequest) => {
  port.postMessage(await answer(request));
  Atomics.add(replies, 0, 1);
  Atomics.notify(replies, 0);
});
