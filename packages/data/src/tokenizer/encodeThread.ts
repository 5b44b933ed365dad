/** The thread behind `SyncEncoder`. */

import { workerData } from 'node:worker_threads';
import { LibraryEncoder, RefusedFile } from './libraryEncoder.ts';
import { ENDED, LOADED, SYNC, type SyncChannel, type SyncReply, type SyncRequest } from './syncEncoder.ts';

const { port, shared } = workerData as SyncChannel;
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

function wake(): void {
  Atomics.add(shared, SYNC.replies, 1);
  Atomics.notify(shared, SYNC.replies);
}

port.on('message', async (request: SyncRequest) => {
  port.postMessage(await answer(request));
  wake();
});

// An error that nothing handles ends the thread; who waits for a reply must not wait for ever.
process.on('exit', () => {
  Atomics.store(shared, SYNC.state, ENDED);
  wake();
});

Atomics.store(shared, SYNC.state, LOADED);
Atomics.notify(shared, SYNC.state);
