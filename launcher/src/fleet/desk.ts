/** Where somebody outside may ask about a run, or have it saved and stopped. */

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { CurveKeys } from '@sluice/collectives';
import { errorToData, listenAt, makeRuntimeDirectory, receiveAll } from '@sluice/collectives/control';
import { Context, Router } from 'zeromq';
import { claimRuntimeDirectory } from '../coordinator/runtimeDirectory.ts';
import { decodeFromAgent, encodeFromCoordinator, MAX_FLEET_BYTES } from './protocol.ts';

/** What the desk gives out. */
export interface DeskAnswers {
  /** What is told of the run, as JSON. */
  report(): Record<string, unknown>;
  stop(reason: string): void;
}

export interface Desk {
  /** Where it is reached: any of these. */
  readonly endpoints: readonly string[];
  /** Key of the connection; none where only the user's processes on this machine can make one. */
  readonly curve?: CurveKeys | undefined;
  close(): void;
}

/**
 * A desk for the user's processes on this machine: a socket in a directory of its own, which nobody else may enter.
 * @throws SLUICE_E_TEMPORARY_DIRECTORY
 */
export async function openLocalDesk(answers: DeskAnswers): Promise<Desk> {
  const directory = makeRuntimeDirectory();
  claimRuntimeDirectory(directory);
  const router = new Router({ context: new Context(), maxMessageSize: MAX_FLEET_BYTES, linger: 1000 });
  const endpoint = `ipc://${join(directory, 'desk')}`;
  const close = () => {
    router.close();
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await listenAt(router, endpoint);
  } catch (error) {
    close();
    throw error;
  }
  void receiveAll(router, async (identity, frame) => {
    const answer = frame && answerTo(frame, answers);
    // Who asked may be gone.
    if (identity !== undefined && answer !== undefined) await router.send([identity, answer]).catch(() => {});
  });
  return { endpoints: [endpoint], close };
}

function answerTo(frame: Buffer, { report, stop }: DeskAnswers): Buffer | undefined {
  try {
    const message = decodeFromAgent(frame);
    if (message?.kind !== 'ask') return undefined;
    if (message.body.what === 'stop') stop(STOPPED_BY_COMMAND);
    return encodeFromCoordinator('told', { answer: report() });
  } catch (error) {
    const { code, message, details } = errorToData(error, 'the coordinator');
    return encodeFromCoordinator('refused', { error: { code, message, details: { ...details } } });
  }
}

/** Who wants the run to stop, where somebody asked at its desk. */
export const STOPPED_BY_COMMAND = 'sluice stop';
