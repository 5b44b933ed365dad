/** `sluice ps`: what is alive of runs: hosts, processes, what each is doing. */

import { relative } from 'node:path';
import { counted, formatDuration, terminalTable } from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import type { RunReport } from '../coordinator/runBoard.ts';
import { namedHosts } from '../fleet/namedHosts.ts';
import { readJournal } from '../run/journal.ts';
import { lockOwner } from '../run/lock.ts';
import { existingRun, type RunDirectory, runDirectory } from '../run/runDirectory.ts';
import { pathOfToken, runId, runToken } from '../run/runToken.ts';
import { askCoordinator } from './askCoordinator.ts';
import { findCoordinator } from './liveRun.ts';
import { type HostAnswer, runOnHosts } from './onHosts.ts';
import { type RunProcess, runProcesses } from './runProcesses.ts';
import { runsBelow } from './runsBelow.ts';

export interface PsOptions {
  readonly run?: string | undefined;
  /** What names hosts whose processes are looked through (`namedHosts`); empty: the run itself. */
  readonly hosts?: string | undefined;
  readonly sshCommand?: string | undefined;
  /** Look through this machine's processes for those with this token. */
  readonly token?: string | undefined;
}

/** @throws what `findCoordinator` and `askCoordinator` throw; SLUICE_E_RUN_MISSING, SLUICE_E_HOST_FILE */
export async function ps(options: PsOptions): Promise<CommandResult> {
  if (options.token !== undefined) return localProcesses(runProcesses(options.token));
  if (options.run === undefined) return listRuns('runs');
  const run = existingRun(options.run);
  if (options.hosts !== undefined) return processesOnHosts(run, options);
  const live = await findCoordinator(run);
  if (live === undefined) return notRunning(run);
  const report = await askCoordinator(live.contact, 'ps');
  return { text: reportText(report), json: { alive: true, ...report } };
}

/** The token of a run's processes. */
function tokenOfRun({ path, journal }: RunDirectory): string | undefined {
  const id = runId(readJournal(journal));
  return id === undefined ? undefined : runToken(path, id);
}

/**
 * The processes of a run on hosts, and hosts that could not be looked at; none where the run has not begun.
 * @throws as `namedHosts`
 */
export async function askHosts(
  run: RunDirectory,
  { hosts, sshCommand }: PsOptions,
  command: 'ps' | 'stop',
): Promise<HostAnswer[]> {
  const named = namedHosts(hosts || run.path, sshCommand);
  const token = tokenOfRun(run);
  return token === undefined ? [] : runOnHosts(named.hosts, [command, '--token', token], named.command);
}

/** How a run that nobody coordinates ended. */
function notRunning(run: RunDirectory): CommandResult {
  const stop = readJournal(run.journal).findLast(({ kind }) => kind === 'stop');
  const how =
    stop?.kind === 'stop' ? `it ended at step ${stop.step} (${stop.reason})` : 'it has not come to an end';
  return {
    text: `${run.path} is not running: ${how}`,
    json: { alive: false, run: run.path, step: stop?.step ?? null },
  };
}

async function processesOnHosts(run: RunDirectory, options: PsOptions): Promise<CommandResult> {
  const answers = await askHosts(run, options, 'ps');
  const hosts = answers.map(({ host, json, failure }) => ({
    host,
    processes: (json?.processes ?? []) as RunProcess[],
    ...(failure !== undefined && { failure }),
  }));
  const rows = hosts.flatMap(({ host, processes }) =>
    processes.map(({ pid, what, rank }) => [host, `${what}${rank === null ? '' : ` ${rank}`}`, String(pid)]),
  );
  const failed = hosts.filter(({ failure }) => failure !== undefined);
  return {
    text: [
      rows.length === 0
        ? `no process of ${run.path} was found`
        : terminalTable(rows, { header: ['host', 'what', 'process'], align: ['left', 'left', 'right'] }),
      ...failed.map(({ host, failure }) => `${host} could not be looked at: ${failure}`),
    ].join('\n'),
    json: { run: run.path, token: tokenOfRun(run) ?? null, hosts },
    exitCode: failed.length > 0 ? 1 : 0,
  };
}

function localProcesses(processes: readonly RunProcess[]): CommandResult {
  const lines = processes.map(({ pid, what, rank }) => `${pid}  ${what}${rank === null ? '' : ` ${rank}`}`);
  return { text: lines.join('\n') || 'no process carries it', json: { processes } };
}

/** The runs below a folder that somebody coordinates, and processes of this machine whose run nobody does. */
async function listRuns(folder: string): Promise<CommandResult> {
  const found = new Set(runsBelow(folder));
  const processes = process.platform === 'linux' ? runProcesses() : [];
  for (const { token } of processes) found.add(pathOfToken(token));
  const runs = [...found].flatMap((path) => aliveRun(path, processes) ?? []);
  const rows = runs.map(({ path, state, pid, host, workers }) => [
    ...[shortest(path), state, pid === null ? '' : `process ${pid} on ${host}`],
    workers === 0 ? '' : `${counted(workers, 'worker')} here`,
  ]);
  return {
    text: rows.length === 0 ? `no run is alive in ${folder}/ or on this machine` : terminalTable(rows),
    json: { runs },
  };
}

interface AliveRun {
  readonly path: string;
  readonly state: 'alive' | 'killed' | 'left over';
  /** Of the coordinator. */
  readonly pid: number | null;
  readonly host: string | null;
  /** Processes of workers on this machine. */
  readonly workers: number;
}

/** Of a run that was killed nothing is alive but what it may have left on this machine; it is told all the same. */
function aliveRun(path: string, processes: readonly RunProcess[]): AliveRun | undefined {
  const owner = lockOwner(runDirectory(path).lock);
  const ofRun = processes.filter(({ token }) => pathOfToken(token) === path);
  if (owner === undefined && ofRun.length === 0) return undefined;
  return {
    path,
    state: owner === undefined ? 'left over' : owner.alive ? 'alive' : 'killed',
    pid: owner?.pid ?? null,
    host: owner?.host ?? null,
    workers: ofRun.filter(({ what }) => what === 'worker').length,
  };
}

function reportText(report: RunReport): string {
  const { coordinator, step, steps, savedStep, saves, doing, stopping, restarts, lastFault, hosts, workers } =
    report;
  const running = formatDuration(coordinator.runningMs / 1000);
  const saved = `${savedStep === null ? 'none saved yet' : `saved ${savedStep}`}${underWay(report)}`;
  const asked = stopping === null ? '' : `, stopping (asked by ${stopping})`;
  const rows = [
    ['coordinator', '', `${coordinator.host}`, String(coordinator.pid), `${doing}${asked}`],
    ...hosts.map(({ name, address, agent, heardAgoMs }) => [
      ...['agent', '', name, String(agent)],
      `${address}, heard of ${formatDuration(heardAgoMs / 1000)} ago`,
    ]),
    ...workers.map(({ rank, host, pid, doing: own }) => [
      'worker',
      String(rank),
      host,
      String(pid ?? '?'),
      own,
    ]),
  ];
  return [
    `${shortest(report.run)}: step ${step} of ${steps}, ${saved}, running for ${running}`,
    ...(saves && saves.failures > 0
      ? [`saves fail (${saves.failures} in a row), training goes on: ${saves.lastFailure}`]
      : []),
    ...(lastFault
      ? [
          `restarts: ${restarts}; the last one ${formatDuration(lastFault.agoMs / 1000)} ago: ${lastFault.message}`,
        ]
      : []),
    terminalTable(rows, {
      header: ['', 'rank', 'host', 'process', 'doing'],
      align: ['left', 'right', 'left', 'right', 'left'],
    }),
  ].join('\n');
}

/** A save that is not durable yet. */
function underWay({ savedStep, saves }: RunReport): string {
  const { requested = null, staged } = saves ?? {};
  if (requested === null || requested === savedStep) return '';
  return staged === requested ? ` (writing ${requested})` : ` (staging ${requested})`;
}

function shortest(path: string): string {
  const below = relative(process.cwd(), path);
  return below.startsWith('..') ? path : below;
}
