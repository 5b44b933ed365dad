/**
 * A command that another one has started as its own part ends with it, whatever ended that: it is told so by the environment.
 *
 * npm and npx run a command below a shell and pass signals on to that shell, which dies of them without a word to the
 * command. So for a command that npm started, the end of its parent means: stop. Unless a hang-up ended the parent that is to
 * be outlived: both get the signal at once, so it has been seen here by the second look.
 */

import { hasHungUp } from './hangUp.ts';

const LOOK_EVERY_MS = 200;

/** Set for a process that is to stop when its parent has ended. */
const FOLLOWS_PARENT = 'SLUICE_FOLLOWS_PARENT';

/** The environment of such a process. */
export function followingParent(environment: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  return { ...environment, [FOLLOWS_PARENT]: '1' };
}

/**
 * Calls `onGone` once when the parent of this process ends, if npm or a command that it is a part of started it.
 * @returns ends the watch
 */
export function watchParent(
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
  const isFollowing = environment.npm_command !== undefined || environment[FOLLOWS_PARENT] !== undefined;
  if (!isFollowing) return () => {};
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
