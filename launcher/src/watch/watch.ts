/** `sluice watch`: shows runs to browsers until it is stopped. */

import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { isAbsolute, relative } from 'node:path';
import { SluiceError } from '@sluice/core';
import {
  formatCount,
  formatDuration,
  formatLoss,
  formatWholeSeconds,
  isLoopback,
  type ListedRun,
  RunList,
  startWatchServer,
  terminalTable,
  type WatchServer,
} from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import { readSecret } from '../run/secrets.ts';
import { watchParent } from '../signals/parentWatch.ts';
import { ABORTED_EXIT_CODE, installStopSignal } from '../signals/stopSignal.ts';
import { FileCatalog } from './catalog.ts';

/** Where the page is when no port is asked for; the next free one where it is taken. */
const USUAL_PORT = 7007;

export interface WatchOptions {
  /** Runs, and folders with runs. */
  readonly places: readonly string[];
  readonly host: string;
  readonly port?: number | undefined;
  /** File that holds the token; one is made up where it is needed and none is given. */
  readonly tokenFile?: string | undefined;
}

/** Folders that are watched where none is named. */
export function usualPlaces(): string[] {
  const there = ['runs', 'experiments'].filter((folder) => existsSync(folder));
  if (there.length > 0) return there;
  throw new SluiceError(
    'SLUICE_E_RUN_MISSING',
    'There is neither runs/ nor experiments/ here: name a run, or a folder with runs.',
  );
}

/** @throws SLUICE_E_FILE_MISSING, SLUICE_E_PORT_TAKEN, SLUICE_E_USAGE */
export async function watch(options: WatchOptions, log: (line: string) => void): Promise<CommandResult> {
  const catalog = new FileCatalog(options.places);
  const token = tokenFor(options);
  const started = performance.now();
  const server = await startServer(options, catalog, token);
  log(`watching ${countText(catalog.runs().length)}: ${server.url}  (Ctrl-C ends it)`);
  if (token !== undefined && isLoopback(options.host) === false) {
    log(
      'whoever has this address can look; it is not encrypted: beyond a network that you trust, tunnel it through ssh',
    );
  }
  await untilStopped();
  await server.close();
  const seconds = Math.round((performance.now() - started) / 1000);
  return {
    text: `watched for ${formatDuration(seconds)}`,
    json: {
      url: server.url.replace(/\?token=.*/, ''),
      port: server.port,
      runs: catalog.runs().length,
      seconds,
    },
  };
}

/** What there is, once: by the paths that other commands take. */
export async function listOnce(places: readonly string[]): Promise<CommandResult> {
  const watched = new FileCatalog(places).runs();
  const listed = await new RunList().list(watched);
  const runs = listed.map((run, i) => ({ ...run, path: shortPath(watched[i]!.path) }));
  return { text: runs.length === 0 ? 'no runs' : tableOf(runs), json: { runs } };
}

/** From the current directory, if it lies there. */
function shortPath(path: string): string {
  const below = relative('', path);
  return below === '' || below.startsWith('..') || isAbsolute(below) ? path : below;
}

function tableOf(runs: readonly (ListedRun & { readonly path: string })[]): string {
  const loss = (value: number | null) => (value === null ? '' : formatLoss(value));
  const rows = runs.map((run) => [
    ...[run.path, run.state],
    `${formatCount(run.step)}${run.steps === null ? '' : ` / ${formatCount(run.steps)}`}`,
    ...[loss(run.loss), loss(run.validationLoss)],
    run.tokensPerSecond === null ? '' : formatCount(run.tokensPerSecond),
    run.secondsLeft === null ? '' : formatWholeSeconds(run.secondsLeft),
    run.spikes === 0 ? '' : String(run.spikes),
  ]);
  const header = ['run', 'state', 'step', 'loss', 'validation', 'tokens/s', 'left', 'spikes'];
  const right = 'right' as const;
  return terminalTable(rows, { header, align: ['left', 'left', right, right, right, right, right, right] });
}

function countText(count: number): string {
  return count === 1 ? '1 run' : `${count} runs`;
}

async function startServer(
  { host, port }: WatchOptions,
  catalog: FileCatalog,
  token: string | undefined,
): Promise<WatchServer> {
  try {
    return await startWatchServer({ catalog, host, port: port ?? USUAL_PORT, token });
  } catch (error) {
    const isTaken = error instanceof SluiceError && error.details.errno === 'EADDRINUSE';
    if (port !== undefined || !isTaken) throw error;
    return startWatchServer({ catalog, host, port: 0, token });
  }
}

/** The given one, or beyond this machine one that nobody can guess. */
function tokenFor({ host, tokenFile }: WatchOptions): string | undefined {
  const given = tokenFile === undefined ? process.env.SLUICE_WATCH_TOKEN : readSecret(tokenFile, 'token');
  if (given !== undefined && given !== '') {
    if (/^[\w~.-]{16,}$/.test(given)) return given;
    const from = tokenFile ?? 'SLUICE_WATCH_TOKEN';
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `The token of ${from} is none: it must be at least 16 letters, digits, -, _, . or ~.`,
    );
  }
  return isLoopback(host) ? undefined : randomBytes(24).toString('base64url');
}

async function untilStopped(): Promise<void> {
  await new Promise<void>((resolve) => {
    const stop = installStopSignal({
      onRequest: () => {
        unwatch();
        resolve();
      },
      onAbort: () => process.exit(ABORTED_EXIT_CODE),
    });
    const unwatch = watchParent(() => stop.request());
  });
}
