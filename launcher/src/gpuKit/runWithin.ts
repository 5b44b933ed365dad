/** A program of Node with a limit: when that is reached, it goes, with all that it has started. */

import { spawn } from 'node:child_process';

export type Ending = 'ended' | 'timed out';

/** A process that is killed may be held by its driver for a while; nobody waits for longer. */
const GONE_MS = 20_000;

interface Surroundings {
  readonly env: NodeJS.ProcessEnv;
  /** Ends it early. */
  readonly signal: AbortSignal;
}

/** Runs it in a process group of its own, of which nothing is left afterwards. */
export function runWithin(
  limitMs: number,
  words: readonly string[],
  { env, signal }: Surroundings,
): Promise<Ending> {
  const child = spawn(process.execPath, words, {
    stdio: ['ignore', 'inherit', 'inherit'],
    detached: true,
    env,
  });
  const end = () => {
    try {
      process.kill(-child.pid!, 'SIGKILL');
    } catch {
      // All of it is gone.
    }
  };
  return new Promise((resolve, reject) => {
    let ending: Ending = 'ended';
    let timer = setTimeout(() => {
      ending = 'timed out';
      end();
      timer = setTimeout(() => resolve(ending), GONE_MS);
    }, limitMs);
    signal.addEventListener('abort', end);
    child.once('error', reject);
    child.once('exit', () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      end();
      resolve(ending);
    });
  });
}
