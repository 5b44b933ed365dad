/** `sluice watch RUN --tui`: one run in the terminal, drawn anew as it goes on. */

import { setTimeout as delay } from 'node:timers/promises';
import { SluiceError } from '@sluice/core';
import { RunFollower, RunList, runFrame } from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import { ABORTED_EXIT_CODE, installStopSignal } from '../signals/stopSignal.ts';
import { FileCatalog } from './catalog.ts';
import type { WatchedRunFiles } from './watchedRun.ts';

const DRAW_EVERY_MS = 1000;

/** The other screen of the terminal, without a cursor; and back. */
const ENTER = '\u001b[?1049h\u001b[?25l';
const LEAVE = '\u001b[?25h\u001b[?1049l';
/** To the top, and each line cleared to its end, so that nothing flickers. */
const HOME = '\u001b[H';
const CLEAR_LINE = '\u001b[K';
const CLEAR_REST = '\u001b[J';

/** @throws SLUICE_E_USAGE where there is not one run, SLUICE_E_FILE_MISSING */
export async function watchInTerminal(
  places: readonly string[],
  once: boolean,
  terminal: NodeJS.WriteStream = process.stdout,
): Promise<CommandResult> {
  const runs = new FileCatalog(places).runs();
  const run = runs.length === 1 ? runs[0]! : oneThatGoesOn(runs, places);
  const follower = new RunFollower(run.path);
  try {
    await follower.ready;
    const draw = () => frameOf(run, follower, terminal);
    if (once || terminal.isTTY !== true) {
      while (follower.progress < 1) await follower.changed(follower.version, DRAW_EVERY_MS);
      return { text: (await draw()).join('\n'), json: { run: run.path, state: run.brief().status.state } };
    }
    await keepDrawing(draw, follower, terminal);
    return { text: '', json: { run: run.path, state: run.brief().status.state } };
  } finally {
    follower.close();
  }
}

/** Of several the one that goes on. */
function oneThatGoesOn(runs: readonly WatchedRunFiles[], places: readonly string[]): WatchedRunFiles {
  const going = runs.filter((run) => run.brief().status.state === 'running');
  if (going.length === 1) return going[0]!;
  const names = (going.length > 0 ? going : runs).slice(0, 8).map(({ name }) => name);
  throw new SluiceError(
    'SLUICE_E_USAGE',
    `--tui shows one run, and ${places.join(' and ')} has ${names.length === 0 ? 'none' : `several: ${names.join(', ')}`}.`,
  );
}

async function frameOf(
  run: WatchedRunFiles,
  follower: RunFollower,
  terminal: NodeJS.WriteStream,
): Promise<string[]> {
  const [{ secondsLeft, steps }] = (await new RunList().list([run])) as [
    Awaited<ReturnType<RunList['list']>>[number],
  ];
  return runFrame({
    ...{ name: run.name, facts: await run.facts(), columns: follower.columns },
    samples: follower.samples,
    ...{ steps: steps ?? undefined, secondsLeft: secondsLeft ?? undefined },
    ...{ width: Math.max(40, terminal.columns ?? 80), height: terminal.rows ?? 40 },
    color: terminal.isTTY === true && process.env.NO_COLOR === undefined && terminal.hasColors?.() !== false,
  });
}

async function keepDrawing(
  draw: () => Promise<string[]>,
  follower: RunFollower,
  terminal: NodeJS.WriteStream,
): Promise<void> {
  const ended = new AbortController();
  const end = () => {
    ended.abort();
    // Nobody waits for news of it any longer.
    follower.close();
  };
  const stop = installStopSignal({
    onRequest: end,
    onAbort: () => process.exit(ABORTED_EXIT_CODE),
  });
  const unlisten = endAtKeys(end);
  terminal.write(ENTER);
  const leave = () => terminal.write(LEAVE);
  process.once('exit', leave);
  try {
    while (!ended.signal.aborted) {
      const lines = (await draw()).slice(0, Math.max(1, (terminal.rows ?? 40) - 2));
      const drawn = [...lines, '', 'q ends'].map((line) => `${line}${CLEAR_LINE}`).join('\r\n');
      terminal.write(`${HOME}${drawn}${CLEAR_REST}`);
      const { version } = follower;
      await delay(DRAW_EVERY_MS, undefined, { signal: ended.signal }).catch(() => {});
      await follower.changed(version, 5 * DRAW_EVERY_MS);
    }
  } finally {
    process.off('exit', leave);
    leave();
    unlisten();
    stop.uninstall();
  }
}

/** `q`, and Ctrl-C and Ctrl-D, which a terminal in raw mode makes no signals of. */
const END_KEYS: ReadonlySet<number> = new Set([0x71, 0x03, 0x04]);

function endAtKeys(end: () => void): () => void {
  const { stdin } = process;
  if (stdin.isTTY !== true) return () => {};
  const listen = (keys: Buffer) => {
    if (keys.some((key) => END_KEYS.has(key))) end();
  };
  stdin.setRawMode(true);
  stdin.on('data', listen);
  return () => {
    stdin.off('data', listen);
    stdin.setRawMode(false);
    stdin.pause();
  };
}
