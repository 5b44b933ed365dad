/** `sluice mlflow`: the logs of a run as an MLflow server takes them. */

import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SluiceError } from '@sluice/core';
import { counted, MlflowSender, type MlflowStatus } from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import { watchParent } from '../signals/parentWatch.ts';
import { ABORTED_EXIT_CODE, installStopSignal } from '../signals/stopSignal.ts';
import { WatchedRunFiles } from '../watch/watchedRun.ts';
import { percentLogger } from './percentLogger.ts';
import { loadRunConfig } from './runConfig.ts';
import { existingRun } from './runDirectory.ts';
import { configInRun } from './runPaths.ts';
import { isHttpAddress } from './secrets.ts';

const SEND_EVERY_MS = 5000;
/** A server that is away is asked that seldom at last, ms. */
const LONGEST_PAUSE_MS = 60_000;

export interface MlflowOptions {
  readonly url?: string | undefined;
  readonly experiment: string;
  readonly follow?: boolean | undefined;
}

/** @throws SLUICE_E_RUN_MISSING, SLUICE_E_USAGE, SLUICE_E_SERVER_UNREACHABLE where it is not followed */
export async function tellMlflow(
  path: string,
  { url = process.env.MLFLOW_TRACKING_URI, experiment, follow = false }: MlflowOptions,
  log: (line: string) => void,
): Promise<CommandResult> {
  const run = existingRun(path);
  const address = checkedUrl(url);
  const config = loadRunConfig(run.config, {});
  const name = config.name ?? basename(run.path);
  const watched = new WatchedRunFiles({ path: run.path, name, group: undefined });
  const sender = new MlflowSender(
    { path: run.path, name, experiment, config: configInRun(run.path, config) },
    { url: address, authorization: authorization() },
  );
  let steps = 0;
  const onProgress = percentLogger('telling MLflow', log);
  const send = async () => {
    const { state } = watched.brief().status;
    steps += await sender.send(onProgress);
    await sender.end(STATUSES[state]);
    return state;
  };
  if (follow) {
    log(`telling MLflow at ${new URL(address).host} of ${name}`);
    await keepSending(send, log);
  } else await send();
  return {
    text: `told ${new URL(address).host} of ${counted(steps, 'step')}, as ${name} in the experiment ${experiment}`,
    json: { steps, name, experiment },
  };
}

const STATUSES: Readonly<Record<ReturnType<WatchedRunFiles['brief']>['status']['state'], MlflowStatus>> = {
  running: 'RUNNING',
  finished: 'FINISHED',
  stopped: 'KILLED',
  failed: 'FAILED',
  killed: 'FAILED',
};

/** Until the run ends, or a signal comes; then once more. A run that has not begun, or was just killed, may go on. */
async function keepSending(send: () => Promise<string>, log: (line: string) => void): Promise<void> {
  const ended = new AbortController();
  const stop = installStopSignal({
    onRequest: () => ended.abort(),
    onAbort: () => process.exit(ABORTED_EXIT_CODE),
  });
  const unwatch = watchParent(() => stop.request());
  let pause = SEND_EVERY_MS;
  try {
    for (let isLast = false; !isLast; ) {
      isLast = ended.signal.aborted;
      try {
        const state = await send();
        pause = SEND_EVERY_MS;
        if (state !== 'running' && state !== 'killed') return;
      } catch (error) {
        if (!(error instanceof SluiceError)) throw error;
        if (pause === SEND_EVERY_MS) log(`${error.message} Trying again.`);
        pause = Math.min(LONGEST_PAUSE_MS, 2 * pause);
      }
      if (!isLast) await delay(pause, undefined, { signal: ended.signal }).catch(() => {});
    }
  } finally {
    unwatch();
    stop.uninstall();
  }
}

function checkedUrl(url: string | undefined): string {
  if (url !== undefined && isHttpAddress(url)) return url;
  throw new SluiceError(
    'SLUICE_E_USAGE',
    url === undefined
      ? 'Which server? Name it by --url, or by the variable MLFLOW_TRACKING_URI.'
      : `${JSON.stringify(url)} is no address of a server (http://… or https://…).`,
  );
}

/** As MLflow's own clients take it, from the environment alone. */
function authorization(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  const {
    MLFLOW_TRACKING_TOKEN: token,
    MLFLOW_TRACKING_USERNAME: user,
    MLFLOW_TRACKING_PASSWORD: password,
  } = environment;
  if (token) return `Bearer ${token}`;
  return user ? `Basic ${Buffer.from(`${user}:${password ?? ''}`).toString('base64')}` : undefined;
}
