/**
 * npm and npx run a command below a shell and pass signals on to that shell, which dies of them without a word to the
 * command. So for a command that npm started, the end of its parent means: stop. Unless a hang-up ended the parent that is to
 * be outlived: both get the signal at once, so it has been seen here by the second look.
 */

import { hasHungUp } from './hangUp.ts';

const LOOK_EVERY_MS = 200;

/**
 * Calls `onGone` once when the parent of this process ends, if npm started it.
 * @returns ends the watch
 */
export function watchNpmParent(
  onGone: () => void,
  options: {
    readonly environment?: NodeJS.ProcessEnv;
    readonly parent?: () => number;
    readonly everyMs?: number;
    /** Whether there was a hang-up that is to be outlived. */
    readonly hungUp?: () => boolean;
  } = {},
): () => void {
  const {
    environment = process.env,
    parent = () => process.ppid,
    everyMs = LOOK_EVERY_MS,
    hungUp = hasHungUp,
  } = options;
  if (environment.npm_command === undefined) return () => {};
  const first = parent();
  let seenGone = false;
  const timer = setInterval(() => {
    if (parent() === first) return;
    if (!seenGone) {
      seenGone = true;
      return;
    }
    clearInterval(timer);
    if (!hungUp()) onGone();
  }, everyMs);
  timer.unref();
  return () => clearInterval(timer);
}
