/**
 * `status.json`: how it is with a run at the moment, as its coordinator tells it every few seconds, for whoever may read the run's
 * directory. Nothing depends on it: where it cannot be written it is not.
 */

import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { hasVanished } from './runDirectory.ts';

const LiveStatus = z.object({
  step: z.int(),
  /** What the workers carry out together, in words. */
  doing: z.string(),
  /** How often workers were started anew after a fault. */
  restarts: z.int(),
  /** Loss of a unigram model on the validation split, nats a token; null where there is none. */
  unigramLoss: z.number().nullable(),
  workers: z.array(
    z.object({
      rank: z.int(),
      host: z.string(),
      pid: z.int().nullable(),
      doing: z.string(),
      /** Of the last step, seconds; null before there was one. */
      own: z.number().nullable(),
      waiting: z.number().nullable(),
      /** Seconds since its host's agent was heard of; null where there is none. */
      heardAgo: z.number().nullable(),
    }),
  ),
});

export type LiveStatus = z.infer<typeof LiveStatus>;

const FILE = 'status.json';

export function writeLiveStatus(runPath: string, status: LiveStatus): void {
  if (hasVanished(runPath)) return;
  const path = join(runPath, FILE);
  const temporary = `${path}.${process.pid}`;
  try {
    writeFileSync(temporary, `${JSON.stringify(status)}\n`);
    renameSync(temporary, path);
  } catch {
    rmSync(temporary, { force: true });
  }
}

/** Undefined where there is none that can be read. */
export function readLiveStatus(runPath: string): LiveStatus | undefined {
  try {
    return LiveStatus.parse(JSON.parse(readFileSync(join(runPath, FILE), 'utf8')));
  } catch {
    return undefined;
  }
}
