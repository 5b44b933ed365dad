/** A notice that this machine is to be taken away: a file that appears, or a URL that answers (clouds' metadata servers). */

import { existsSync } from 'node:fs';

const LOOK_EVERY_MS = 2000;
const ANSWER_LIMIT_MS = 1500;

/**
 * Calls `onNotice` once when there is one.
 * @param place path of a file, or http:// URL; nothing is watched when left out
 * @returns ends the watch
 */
export function watchPreemption(place: string | undefined, onNotice: (notice: string) => void): () => void {
  if (place === undefined) return () => {};
  const isThere = /^https?:/.test(place) ? () => answers(place) : async () => existsSync(place);
  const timer = setInterval(async () => {
    if (!(await isThere())) return;
    clearInterval(timer);
    onNotice(`a notice of preemption at ${place}`);
  }, LOOK_EVERY_MS);
  timer.unref();
  return () => clearInterval(timer);
}

/** Metadata servers answer 404, or `FALSE`, as long as nothing is to happen. */
async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, {
      headers: { 'Metadata-Flavor': 'Google' },
      signal: AbortSignal.timeout(ANSWER_LIMIT_MS),
    });
    return response.ok && !/^(false|none)?$/i.test((await response.text()).trim());
  } catch {
    return false;
  }
}
