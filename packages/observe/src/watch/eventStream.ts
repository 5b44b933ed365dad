/** Server-sent events to one page, compressed where it understands that. */

import type { IncomingMessage, ServerResponse } from 'node:http';
import { constants, createGzip, type Gzip } from 'node:zlib';

/** How often a line goes out though nothing has changed, so that what lies between does not close the connection, ms. */
const BEAT_MS = 15_000;

export class EventStream {
  readonly #response: ServerResponse;
  readonly #gzip: Gzip | undefined;
  readonly #beat: NodeJS.Timeout;
  isOpen = true;

  constructor(request: IncomingMessage, response: ServerResponse, headers: Readonly<Record<string, string>>) {
    const isCompressed = /\bgzip\b/.test(String(request.headers['accept-encoding']));
    this.#response = response;
    response.writeHead(200, {
      ...headers,
      'Content-Type': 'text/event-stream',
      // What is in between may neither keep nor hold it back.
      'Cache-Control': 'no-store, no-transform',
      'X-Accel-Buffering': 'no',
      ...(isCompressed && { 'Content-Encoding': 'gzip' }),
    });
    if (isCompressed) {
      this.#gzip = createGzip({ level: 4 });
      this.#gzip.pipe(response);
    }
    response.on('close', () => this.#end());
    response.on('error', () => this.#end());
    this.#beat = setInterval(() => this.#write(': beat\n\n'), BEAT_MS);
    this.#beat.unref();
    // After a loss of the connection, the page comes back that soon, ms.
    this.#write('retry: 1500\n\n');
  }

  send(event: string, json: string): void {
    this.#write(`event: ${event}\ndata: ${json}\n\n`);
  }

  /** Resolves when the page has taken what was written, so that a slow one is not buried. */
  async drained(): Promise<void> {
    const stream = this.#gzip ?? this.#response;
    while (this.isOpen && stream.writableNeedDrain) await new Promise((resolve) => setTimeout(resolve, 50));
  }

  close(): void {
    this.#end();
    this.#response.end();
    this.#response.destroy();
  }

  #write(text: string): void {
    if (!this.isOpen) return;
    (this.#gzip ?? this.#response).write(text);
    this.#gzip?.flush(constants.Z_SYNC_FLUSH);
  }

  #end(): void {
    this.isOpen = false;
    clearInterval(this.#beat);
  }
}
