/** Brings notices to a server or a program, in the background: who does not answer is tried again, and then given up. */

import { spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { post } from '../post.ts';
import { type Notice, noticeBody, type TemplateName } from './templates.ts';

/** Where notices go. */
export type NoticePlace =
  | { readonly url: string; readonly token?: string | undefined; readonly template: TemplateName }
  | { readonly command: readonly string[] };

export interface MessengerOptions {
  /** Told once when notices do not arrive. */
  readonly warn: (text: string) => void;
  /** How long one attempt may take, ms. */
  readonly limitMs?: number;
  /** Pauses before further attempts, ms. */
  readonly pausesMs?: readonly number[];
}

/** Notices that wait; of more the oldest are dropped. */
const MOST_WAITING = 100;

export class Messenger {
  readonly #place: NoticePlace;
  readonly #options: Required<MessengerOptions>;
  readonly #waiting: Notice[] = [];
  #working: Promise<void> | undefined;
  #hasWarned = false;
  #isClosing = false;

  constructor(place: NoticePlace, { warn, limitMs = 10_000, pausesMs = [1000, 5000] }: MessengerOptions) {
    this.#place = place;
    this.#options = { warn, limitMs, pausesMs };
  }

  /** Returns at once. */
  send(notice: Notice): void {
    this.#waiting.push(notice);
    if (this.#waiting.length > MOST_WAITING) this.#waiting.shift();
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined;
    });
  }

  /** Waits for what is on its way, but not longer than that. */
  async close(limitMs: number): Promise<void> {
    this.#isClosing = true;
    const limit = new AbortController();
    await Promise.race([
      this.#working,
      delay(limitMs, undefined, { signal: limit.signal, ref: false }).catch(() => {}),
    ]);
    limit.abort();
    this.#waiting.length = 0;
  }

  async #work(): Promise<void> {
    for (let notice = this.#waiting.shift(); notice; notice = this.#waiting.shift()) {
      const problem = await this.#bring(notice);
      if (problem === undefined || this.#hasWarned) continue;
      this.#hasWarned = true;
      this.#options.warn(`A notice could not be brought: ${problem} Training goes on.`);
    }
  }

  /** @returns why it could not be brought */
  async #bring(notice: Notice): Promise<string | undefined> {
    const { pausesMs, limitMs } = this.#options;
    for (let attempt = 0; ; attempt++) {
      const problem =
        'command' in this.#place
          ? await runCommand(this.#place.command, notice, limitMs)
          : await postNotice(this.#place, notice, limitMs);
      const pause = pausesMs[attempt];
      if (problem === undefined || pause === undefined || this.#isClosing) return problem;
      await delay(pause, undefined, { ref: false });
    }
  }
}

function postNotice(
  { url, token, template }: Extract<NoticePlace, { url: string }>,
  notice: Notice,
  limitMs: number,
): Promise<string | undefined> {
  const { type, body } = noticeBody(template, notice);
  const headers = { 'Content-Type': type, ...(token !== undefined && { Authorization: `Bearer ${token}` }) };
  return post(url, { headers, body, limitMs });
}

function runCommand(
  [program, ...words]: readonly string[],
  notice: Notice,
  limitMs: number,
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const child = spawn(program!, words, {
      stdio: ['pipe', 'ignore', 'ignore'],
      env: { ...process.env, SLUICE_EVENT: notice.event, SLUICE_TEXT: notice.text },
      timeout: limitMs,
    });
    child.on('error', (error) => resolve(`${program} could not be started (${error.message}).`));
    child.on('close', (code) => resolve(code === 0 ? undefined : `${program} ended with ${code}.`));
    // A program that does not read is not waited for.
    child.stdin.on('error', () => {});
    child.stdin.end(`${JSON.stringify(notice)}\n`);
  });
}
