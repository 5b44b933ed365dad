/** Brings notices to a server or a program, in the background: who does not answer is tried again, and then given up. */

import { spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { BackgroundQueue } from '../backgroundQueue.ts';
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
  readonly #options: Required<Omit<MessengerOptions, 'warn'>>;
  readonly #queue: BackgroundQueue<Notice>;
  #isClosing = false;

  constructor(place: NoticePlace, { warn, limitMs = 10_000, pausesMs = [1000, 5000] }: MessengerOptions) {
    this.#place = place;
    this.#options = { limitMs, pausesMs };
    this.#queue = new BackgroundQueue({
      most: MOST_WAITING,
      bring: (notice) => this.#bring(notice),
      warn: (_, problem) => warn(`A notice could not be brought: ${problem} Training goes on.`),
    });
  }

  /** Returns at once. */
  send(notice: Notice): void {
    this.#queue.add(notice);
  }

  /** Waits for what is on its way, but not longer than that. */
  close(limitMs: number): Promise<void> {
    this.#isClosing = true;
    return this.#queue.close(limitMs);
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
