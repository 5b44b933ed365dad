/**
 * npm and npx run a command below a shell and pass signals on to that shell, which dies of them without a word to the
 * command. So for a command that npm started, the end of its parent means: stop.
 */

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
  } = {},
): () => void {
  const { environment = process.env, parent = () => process.ppid, everyMs = LOOK_EVERY_MS } = options;
  if (environment.npm_command === undefined) return () => {};
  const first = parent();
  const timer = setInterval(() => {
    if (parent() === first) return;
    clearInterval(timer);
    onGone();
  }, everyMs);
  timer.unref();
  return () => clearInterval(timer);
}
