/**
 * Files of another host, which its agent reads and writes for the coordinator: in pieces, of which few are on their way at a
 * time, so that neither memory nor heartbeats suffer from large ones.
 */

import { open } from 'node:fs/promises';
import { errorFromData } from '@sluice/collectives/control';
import { createFile, SluiceError } from '@sluice/core';
import { type AgentMessages, type CoordinatorMessages, type FilePlace, PIECE_BYTES } from './protocol.ts';

type Request = CoordinatorMessages['files'];
/** What a request asks for, without its number. */
type Wish = Request extends infer One ? (One extends Request ? Omit<One, 'ask'> : never) : never;
type Answer = AgentMessages['files'];

export interface HostFile {
  /** From the place that it lies in. */
  readonly path: string;
  readonly size: number;
}

/** Pieces of a file on their way at a time. */
const PIECES_UNDER_WAY = 4;

/** After which time without an answer a request is sent again, since a connection that breaks loses what is on its way, ms. */
const AGAIN_MS = 5000;

interface Asked {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: SluiceError) => void;
  readonly repeat: NodeJS.Timeout;
}

/** All of it throws SLUICE_E_WORKER_LOST when the host is lost, and what its agent has met with. */
export class HostFiles {
  readonly #host: string;
  readonly #send: (request: Request) => void;
  readonly #asked = new Map<number, Asked>();
  #next = 0;
  #lost: string | undefined;

  /** @param host name, for people */
  constructor(host: string, send: (request: Request) => void) {
    this.#host = host;
    this.#send = send;
  }

  /** All files in a place. */
  async list(place: FilePlace): Promise<readonly HostFile[]> {
    return (await this.#ask({ act: 'list', place })).list ?? [];
  }

  /** Removes a file or folder, if it is there. */
  async remove(place: FilePlace, path: string): Promise<void> {
    await this.#ask({ act: 'remove', place, path });
  }

  /** Has workers read the host's own corpus of a hash. @returns whether it has it */
  async linkCorpus(corpus: string): Promise<boolean> {
    return (await this.#ask({ act: 'link', corpus })).isThere ?? false;
  }

  /** Makes what was written into the folder `brought` of the host's corpora one of them. */
  async adoptCorpus(corpus: string, brought: string, name: string): Promise<void> {
    await this.#ask({ act: 'adopt', corpus, brought, name });
  }

  /** A whole file, of a size that memory has room for. */
  async read(place: FilePlace, { path, size }: HostFile): Promise<Buffer> {
    const content = Buffer.alloc(size);
    await inPieces(size, async (offset, length) => {
      const { bytes } = await this.#ask({ act: 'read', place, path, offset, length });
      content.set(bytes?.subarray(0, length) ?? [], offset);
    });
    return content;
  }

  /** Writes a whole file, in place of one of the name. */
  async write(place: FilePlace, path: string, content: Uint8Array): Promise<void> {
    await this.#writePieces(place, path, content.length, async (offset, length) =>
      content.subarray(offset, offset + length),
    );
  }

  /**
   * Fetches a file of any size; it is on this machine's disk, whole, when the promise resolves.
   * @param to path on this machine
   */
  async fetch(place: FilePlace, { path, size }: HostFile, to: string): Promise<void> {
    await createFile(to, (file) =>
      inPieces(size, async (offset, length) => {
        const { bytes } = await this.#ask({ act: 'read', place, path, offset, length });
        await file.write(bytes ?? Buffer.of(), offset);
      }),
    );
  }

  /**
   * Sends a file of any size.
   * @param from path on this machine
   * @param beforePiece may throw, to end it early
   */
  async send(from: string, place: FilePlace, path: string, beforePiece: () => void): Promise<void> {
    const file = await open(from, 'r');
    try {
      const { size } = await file.stat();
      await this.#writePieces(place, path, size, async (offset, length) => {
        beforePiece();
        const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset);
        return buffer.subarray(0, bytesRead);
      });
    } finally {
      await file.close();
    }
  }

  async #writePieces(
    place: FilePlace,
    path: string,
    size: number,
    piece: (offset: number, length: number) => Promise<Uint8Array>,
  ): Promise<void> {
    await this.#ask({ act: 'create', place, path });
    await inPieces(size, async (offset, length) => {
      await this.#ask({ act: 'write', place, path, offset, bytes: await piece(offset, length) });
    });
  }

  /** Takes an answer of the agent. */
  answer(answer: Answer): void {
    const asked = this.#take(answer.ask);
    if (answer.error) asked?.reject(errorFromData(answer.error));
    else asked?.resolve(answer);
  }

  /** The host is not there any more. */
  lose(reason: string): void {
    this.#lost = reason;
    for (const ask of [...this.#asked.keys()]) this.#take(ask)?.reject(this.#lostError(reason));
  }

  async #ask(wish: Wish): Promise<Answer> {
    if (this.#lost !== undefined) throw this.#lostError(this.#lost);
    const request = { ...wish, ask: this.#next++ };
    return new Promise((resolve, reject) => {
      const repeat = setInterval(() => this.#send(request), AGAIN_MS);
      repeat.unref();
      this.#asked.set(request.ask, { resolve, reject, repeat });
      this.#send(request);
    });
  }

  #take(ask: number): Asked | undefined {
    const asked = this.#asked.get(ask);
    clearInterval(asked?.repeat);
    this.#asked.delete(ask);
    return asked;
  }

  #lostError(reason: string): SluiceError {
    return new SluiceError('SLUICE_E_WORKER_LOST', `${this.#host} was lost with its files: ${reason}.`, {
      details: { host: this.#host },
    });
  }
}

/** Carries `piece` out for all pieces of `size` bytes, a few at a time. */
async function inPieces(
  size: number,
  piece: (offset: number, length: number) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  const work = async () => {
    while (next < size) {
      const offset = next;
      next += PIECE_BYTES;
      await piece(offset, Math.min(PIECE_BYTES, size - offset));
    }
  };
  await Promise.all(Array.from({ length: PIECES_UNDER_WAY }, work));
}
