/**
 * Regular expressions of a recipe. One that can match the same text in many ways, such as `(a+)+b`, tries them all, and may not end
 * in a lifetime: what looks at a text is stopped after a while, and told with the document.
 */

import { createContext, Script } from 'node:vm';
import { SluiceError } from '@sluice/core';

/** For each part of a text of so many characters: one that does not go astray takes milliseconds. */
const LIMIT_MS = 60_000;
const PART_LENGTH = 1 << 20;

/** Only a script has a limit of time; it does nothing but call. */
const scope: { work?: (() => unknown) | undefined } = {};
const context = createContext(scope);
const script = new Script('work()');

export class Pattern {
  readonly #expression: RegExp;
  readonly #key: string;
  readonly #limitMs: number;

  /** @param key of the recipe, for messages */
  constructor(source: string, key: string, limitMs = LIMIT_MS) {
    this.#expression = new RegExp(source, 'gu');
    this.#key = key;
    this.#limitMs = limitMs;
  }

  /**
   * The matches from `start` on.
   * @param place of the document, for messages
   * @throws SLUICE_E_DATA_PATTERN
   */
  matches(text: string, start: number, place: string): RegExpExecArray[] {
    this.#expression.lastIndex = start;
    return this.#limited(text, place, () => [...text.matchAll(this.#expression)]);
  }

  /** A text without the matches. @throws SLUICE_E_DATA_PATTERN */
  removedFrom(text: string, place: string): string {
    return this.#limited(text, place, () => text.replace(this.#expression, ''));
  }

  #limited<T>(text: string, place: string, work: () => T): T {
    const timeout = this.#limitMs * Math.ceil((1 + text.length) / PART_LENGTH);
    scope.work = work;
    try {
      return script.runInContext(context, { timeout });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
      const { source } = this.#expression;
      throw new SluiceError(
        'SLUICE_E_DATA_PATTERN',
        `${place}: ${this.#key} /${source}/ has not come to the end of ${text.length} characters after ${timeout / 1000} s.`,
        { details: { place, key: this.#key, pattern: source, characters: text.length, limitMs: timeout } },
      );
    } finally {
      scope.work = undefined;
    }
  }
}
