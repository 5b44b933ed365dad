/** Starts a run on the hosts that a starter brings, or goes on with it: the same command does both. */

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { type CurveKeys, generateCurveKeys } from '@sluice/collectives';
import { diffConfigs, SluiceError } from '@sluice/core';
import type { RunConfig } from '@sluice/train';
import type { CommandResult } from '../cli/command.ts';
import { formatEndpoint } from '../fleet/address.ts';
import { AgentFleet } from '../fleet/agentFleet.ts';
import {
  EXIT_CONFIGURATION,
  EXIT_DONE,
  EXIT_FAILED,
  EXIT_STOPPED_EARLY,
  schedulerExitCode,
} from '../fleet/exitCode.ts';
import { type Fleet, localFleet } from '../fleet/fleet.ts';
import { addressForHosts, nodeName } from '../fleet/hostFile.ts';
import { type HostsFlags, type HostsPlan, planHosts } from '../fleet/hostsPlan.ts';
import { readKeyFile } from '../fleet/keyFile.ts';
import { agentsPort, metricsWords } from '../fleet/metricsWords.ts';
import { startBySsh } from '../fleet/startBySsh.ts';
import { readJournal } from '../run/journal.ts';
import { judgeChanges } from '../run/resumeRules.ts';
import { loadNewRunConfig, loadRunConfig } from '../run/runConfig.ts';
import { directoryForRun, runDirectory } from '../run/runDirectory.ts';
import { configInRun } from '../run/runPaths.ts';
import { newRunId, RUN_VARIABLE, runId, runToken } from '../run/runToken.ts';
import type { LaunchRunOptions } from './launchOptions.ts';
import { launchPlan } from './launchPlan.ts';
import { resumeRun } from './resumeRun.ts';
import { startRun } from './startRun.ts';
import { submitBySlurm, submitToCluster } from './submitRun.ts';

type Log = (line: string) => void;

/**
 * Brings the hosts together, trains on them, and tells their agents how it ended.
 * @throws as `startRun` and `resumeRun`; SLUICE_E_HOST_FILE, SLUICE_E_KEY_FILE, SLUICE_E_SSH_FAILED, SLUICE_E_HOSTS_TOO_FEW,
 *   SLUICE_E_PORT_TAKEN
 */
export async function launchRun(options: LaunchRunOptions, log: Log): Promise<CommandResult> {
  const config = await loadNewRunConfig(options.config, options, () => {}).catch((error) =>
    tellAgents(options, error, log),
  );
  const path = options.runDir ?? directoryForRun(config, options.config);
  const id = runId(readJournal(runDirectory(path).journal)) ?? newRunId();
  const plan = planHosts(hostsFlags(options), config.hosts, options.config);
  const { starter, hosts, keyFile, listen, advertise, collect } = plan;
  if (starter === 'slurm') return submitBySlurm(options, plan, config, path, log);
  if (starter === 'kubernetes') return submitToCluster(options, plan, config);
  const expected = starter === 'ssh' ? hosts.map(nodeName) : starter === 'agents' ? nodesOf(plan) : 0;
  if (options.dryRun) return launchPlan(plan, config, path, agentWords(options));
  if (starter === 'local') return startOrGoOn({ ...options, id }, path, log, localFleet());
  const written = { ...options, id, set: [...(options.set ?? []), ...hostsInRun(plan, config)] };
  const curve: CurveKeys = keyFile === undefined ? generateCurveKeys() : readKeyFile(keyFile);
  const fleet = await AgentFleet.listen({
    endpoint: listen ?? formatEndpoint({ host: advertise ?? (await addressForHosts(hosts)), port: 0 }),
    curve,
    advertise,
    expected,
    collect,
    protection: config.hosts.protection,
    ...config.faults,
    log,
  });
  const environment = { [RUN_VARIABLE]: runToken(path, id) };
  const ssh =
    starter === 'ssh'
      ? startBySsh({
          ...{ fleet, curve, environment, hosts, advertise, words: agentWords(options), log: fleet.log },
          ...(plan.sshCommand && { command: plan.sshCommand.split(' ') }),
        })
      : undefined;
  return await onFleet(fleet, () => startOrGoOn(written, path, log, fleet)).finally(() => ssh?.end());
}

/** Agents that wait for a coordinator whose configuration cannot be read would wait in vain, and be started again. */
async function tellAgents(options: LaunchRunOptions, error: unknown, log: Log): Promise<never> {
  const { on, listen, keyFile, nodes, dryRun } = options;
  if (on !== 'agents' || dryRun || listen === undefined || keyFile === undefined) throw error;
  const fleet = await AgentFleet.listen({
    ...{ endpoint: listen, curve: readKeyFile(keyFile), expected: nodesOf({ nodes }), log },
    ...{ joinSeconds: 0, replacementSeconds: 0 },
  });
  return await onFleet(fleet, () => {
    throw error;
  });
}

/** Whatever becomes of the run, its agents are told, and end with what says it to their schedulers. */
async function onFleet<Result extends CommandResult>(
  fleet: AgentFleet,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    const result = await work();
    await fleet.end(result.exitCode ?? EXIT_DONE, 'the run has ended');
    return result;
  } catch (error) {
    const { message } = error as Error;
    const code = error instanceof SluiceError ? schedulerExitCode(error) : EXIT_FAILED;
    // It comes before the agents do. One that does not hear of it would be started again.
    await fleet.end(code, message.slice(0, 500), code === EXIT_CONFIGURATION);
    throw error;
  }
}

async function startOrGoOn(
  options: LaunchRunOptions & { readonly id: string },
  path: string,
  log: Log,
  fleet: Fleet,
): Promise<CommandResult> {
  const run = runDirectory(path);
  const result = existsSync(run.config)
    ? await resumeRun({ ...options, run: path, set: await freeChanges(options, path) }, log, fleet)
    : await startRun({ ...options, runDir: path }, log, fleet);
  // Stopped before the run's own end, and not because that was asked for: whoever started it is to start it again.
  return result.stoppedEarly ? { ...result, exitCode: EXIT_STOPPED_EARLY } : result;
}

/**
 * What the configuration says now and the run does not, as far as no bit depends on it.
 * @throws SLUICE_E_RESUME_KEY_FIXED, SLUICE_E_RESUME_NEEDS_ALLOW
 */
async function freeChanges(options: LaunchRunOptions, path: string): Promise<string[]> {
  const run = runDirectory(path);
  const saved = configInRun(run.path, loadRunConfig(run.config, {}));
  const now = configInRun(run.path, await loadNewRunConfig(options.config, options, () => {}));
  judgeChanges(saved, now, []);
  // A null takes a key out.
  return diffConfigs(saved, now).map(({ key, after }) => `${key}=${JSON.stringify(after ?? null)}`);
}

function hostsFlags(options: LaunchRunOptions): HostsFlags {
  const { on, nodes, listen, advertise, keyFile, sshCommand, collect } = options;
  return { on, nodes, listen, advertise, keyFile, sshCommand, collect };
}

/** What flags say of hosts that ssh leads to, as keys: the run's files are to tell where its processes are. */
function hostsInRun({ starter, file, sshCommand }: HostsPlan, { hosts }: RunConfig): string[] {
  if (starter !== 'ssh') return [];
  const keys = {
    ...(file !== undefined && { on: starter, file: resolve(file), list: null }),
    ...(sshCommand !== hosts.sshCommand && { sshCommand }),
  };
  return Object.entries(keys).map(([key, value]) => `hosts.${key}=${JSON.stringify(value)}`);
}

function nodesOf({ nodes }: Pick<HostsFlags, 'nodes'>): number {
  if (nodes !== undefined) return nodes;
  throw new SluiceError(
    'SLUICE_E_USAGE',
    '--on agents needs --nodes, the number of agents that are to come (hosts.nodes in the configuration).',
  );
}

/** What agents are told beside their place. */
function agentWords({ metricsPort, metricsHost }: LaunchRunOptions): string[] {
  return metricsPort === undefined ? [] : metricsWords(agentsPort(metricsPort), metricsHost);
}
