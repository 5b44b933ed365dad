/** Lines of several sources for one console: whole ones only, in each source's order; what several say alike is said once. */

/** How long a line waits for others that are equal to it, ms. */
const WINDOW_MS = 250;

/** Sources that are named where a line comes from several. */
const MOST_NAMES = 8;

interface Group {
  readonly text: string;
  readonly sources: string[];
}

export class FoldedLines {
  readonly #tell: (line: string) => void;
  readonly #windowMs: number;
  #groups: Group[] = [];
  /** The place in `#groups` of each source's last line: its next one must come after it. */
  readonly #last = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;

  /** @param windowMs 0: nothing is waited for */
  constructor(tell: (line: string) => void, windowMs = WINDOW_MS) {
    this.#tell = tell;
    this.#windowMs = windowMs;
  }

  add(source: string, text: string): void {
    const after = this.#last.get(source) ?? -1;
    const alike = this.#groups.findIndex((group, i) => i > after && group.text === text);
    if (alike >= 0) this.#groups[alike]!.sources.push(source);
    else this.#groups.push({ text, sources: [source] });
    this.#last.set(source, alike >= 0 ? alike : this.#groups.length - 1);
    if (this.#windowMs === 0) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), this.#windowMs).unref();
  }

  /** Says what waits. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const groups = this.#groups;
    this.#groups = [];
    this.#last.clear();
    for (const { text, sources } of groups) {
      const [first = '', ...others] = sources;
      this.#tell(
        `[${first}] ${text}${others.length === 0 ? '' : ` (× ${sources.length} ranks: ${listed(sources)})`}`,
      );
    }
  }
}

function listed(sources: readonly string[]): string {
  const more = sources.length - MOST_NAMES;
  return `${sources.slice(0, MOST_NAMES).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
