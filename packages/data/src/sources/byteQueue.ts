/** A stream of bytes from which one takes as many as one needs. */
export class ByteQueue {
  readonly #source: AsyncIterator<Uint8Array>;
  #bytes: Buffer = Buffer.alloc(0);
  /** How many bytes were taken or skipped. */
  position = 0;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Whether so many bytes are left. */
  async has(count: number): Promise<boolean> {
    const parts = [this.#bytes];
    let length = this.#bytes.length;
    while (length < count) {
      const next = await this.#source.next();
      if (next.done) break;
      const { buffer, byteOffset, byteLength } = next.value;
      parts.push(Buffer.from(buffer, byteOffset, byteLength));
      length += byteLength;
    }
    if (parts.length > 1) this.#bytes = Buffer.concat(parts);
    return length >= count;
  }

  /** The next bytes, which stay in the queue. */
  async peek(count: number): Promise<Buffer> {
    if (!(await this.has(count)))
      throw new Error(`it is cut off after byte ${this.position + this.#bytes.length}`);
    return this.#bytes.subarray(0, count);
  }

  async take(count: number): Promise<Buffer> {
    const taken = await this.peek(count);
    this.#bytes = this.#bytes.subarray(count);
    this.position += count;
    return taken;
  }

  /** Leaves bytes out without ever holding them all. */
  async skip(count: number): Promise<void> {
    for (let left = count; left > 0; ) {
      await this.peek(1);
      left -= (await this.take(Math.min(left, this.#bytes.length))).length;
    }
  }
}
