/** Moments in which the workers have nothing else to do: what goes on beside training speaks to them only then. */

type Work = () => Promise<void>;

export class Interludes {
  #waiting: Work[] = [];
  #end: { readonly reason: unknown } | undefined;

  /** Has something done in the next interlude; what it throws, whoever gives the interlude learns too. */
  ask<T>(work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const answer = async () => {
        if (this.#end) return reject(this.#end.reason);
        try {
          resolve(await work());
        } catch (error) {
          reject(error);
          throw error;
        }
      };
      if (this.#end) void answer();
      else this.#waiting.push(answer);
    });
  }

  /** Does what has been asked for so far. */
  async give(): Promise<void> {
    for (let left = this.#waiting.length; left > 0; left--) await this.#waiting.shift()!();
  }

  /** There are no more: whoever waits for one, or asks later, is told why. */
  end(reason: unknown): void {
    this.#end = { reason };
    for (const work of this.#waiting.splice(0)) void work();
  }
}
