/** The agent's side of files of its host: what the coordinator asks of them, one request after the other. */

import { constants } from 'node:fs';
import { type FileHandle, open, readdir, rm, stat } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { errorToData } from '@sluice/collectives/control';
import { makeDirectories, writeError } from '@sluice/core';
import { collectedBy, memoryOf } from '@sluice/train';
import { dataRoots } from '../run/dataRoot.ts';
import { adoptCorpus, linkCorpus } from './agentCorpus.ts';
import type { AgentMessages, CoordinatorMessages, FilePlace } from './protocol.ts';

type Request = CoordinatorMessages['files'];
type Answer = AgentMessages['files'];
type Places = Readonly<Record<FilePlace, string>>;

/** How a file is opened for each request. */
const FLAGS = {
  read: constants.O_RDONLY,
  create: constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC,
  write: constants.O_WRONLY,
} as const;

export class AgentFiles {
  readonly #places: Places;
  readonly #answer: (answer: Answer) => void;
  /** The requests so far: a file is made before it is written to. */
  #done: Promise<void> = Promise.resolve();

  /**
   * @param answer sends what came of a request
   * @param places folders that are meant by each place
   */
  constructor(answer: (answer: Answer) => void, places: Places = ownPlaces()) {
    this.#answer = answer;
    this.#places = places;
  }

  request(request: Request): void {
    this.#done = this.#done.then(async () => {
      try {
        this.#answer({ ask: request.ask, ...(await this.#carryOut(request)) });
      } catch (error) {
        const { code, message, details } = errorToData(error, 'the agent');
        this.#answer({ ask: request.ask, error: { code, message, details: { ...details } } });
      }
    });
  }

  async #carryOut(request: Request): Promise<Omit<Answer, 'ask'>> {
    const { memory: _, ...places } = this.#places;
    if (request.act === 'link') return { isThere: linkCorpus(places, request.corpus) };
    if (request.act === 'adopt') return { isThere: await adoptCorpus(places, request) };
    const root = this.#places[request.place];
    if (request.act === 'list') return { list: await filesWithin(root) };
    const path = join(root, request.path);
    try {
      if (request.act !== 'remove') return await onFile(path, request);
      await rm(path, { recursive: true, force: true });
      return {};
    } catch (error) {
      throw writeError(path, error);
    }
  }
}

function ownPlaces(): Places {
  return {
    memory: memoryOf(process.pid),
    collected: collectedBy(process.pid),
    data: dataRoots().outputRoot,
  };
}

async function onFile(
  path: string,
  request: Extract<Request, { act: keyof typeof FLAGS }>,
): Promise<Omit<Answer, 'ask'>> {
  if (request.act === 'create') makeDirectories(dirname(path));
  const file = await open(path, FLAGS[request.act]);
  try {
    if (request.act === 'read') return { bytes: await readPiece(file, request.offset, request.length) };
    if (request.act === 'write') await writePiece(file, request.offset, request.bytes);
    return {};
  } finally {
    await file.close();
  }
}

/** The files of a folder and those in it, with their sizes; none where there is no such folder. */
async function filesWithin(root: string): Promise<{ path: string; size: number }[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => []);
  const files = entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));
  // One that goes just now is none of them.
  const sizes = await Promise.all(files.map((file) => stat(file).catch(() => undefined)));
  return files.flatMap((file, i) => (sizes[i] ? [{ path: relative(root, file), size: sizes[i].size }] : []));
}

/** Up to `length` bytes; fewer where the file ends. */
async function readPiece(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  let read = 0;
  for (let got = -1; got !== 0 && read < length; read += got) {
    ({ bytesRead: got } = await file.read(bytes, read, length - read, offset + read));
  }
  return bytes.subarray(0, read);
}

async function writePiece(file: FileHandle, offset: number, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    written += (await file.write(bytes, written, bytes.length - written, offset + written)).bytesWritten;
  }
}
