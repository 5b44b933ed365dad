/** Small arrays of the host that kernels need in every layer, such as tables of angles: they stay on a device while they are used. */

/** Those that were used last. */
const MOST_COPIES = 32;

export class KeptCopies<Copy> {
  /** What was used last comes last. */
  readonly #kept = new Map<unknown, Copy>();
  readonly #release: (copy: Copy) => void;

  /** @param release gives the memory of a copy back */
  constructor(release: (copy: Copy) => void) {
    this.#release = release;
  }

  /**
   * What `upload` gave for this key, if it is there still. It is given back when enough others were used since.
   * @param key an array whose values never change, or a text that says what the values are
   */
  of<C extends Copy>(key: unknown, upload: () => C): C {
    const copy = (this.#kept.get(key) as C | undefined) ?? upload();
    this.#kept.delete(key);
    this.#kept.set(key, copy);
    if (this.#kept.size > MOST_COPIES) {
      const [oldest, unused] = this.#kept.entries().next().value!;
      this.#kept.delete(oldest);
      this.#release(unused);
    }
    return copy;
  }

  /** Of a device whose memory is given back as a whole. */
  forget(): void {
    this.#kept.clear();
  }
}
