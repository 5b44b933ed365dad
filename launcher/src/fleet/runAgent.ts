/** The life of the process of an agent: where it learns its place, what asks it to stop, and what it starts beside itself. */

import { once } from 'node:events';
import { hostname } from 'node:os';
import { createInterface } from 'node:readline';
import { SluiceError } from '@sluice/core';
import { hostMetrics, type MetricsServer, serveMetrics } from '@sluice/observe';
import { z } from 'zod';
import type { CommandResult } from '../cli/command.ts';
import { givenIncarnation, Incarnation } from '../run/incarnation.ts';
import { wasAskedToStop } from '../signals/stopSignal.ts';
import { anyAddress, formatEndpoint, isLoopback, parseEndpoint } from './address.ts';
import { Agent, type AgentOptions } from './agent.ts';
import { CoordinatorChild } from './coordinatorChild.ts';
import { EXIT_FAILED } from './exitCode.ts';
import { KeyFile, readKeyFile } from './keyFile.ts';
import { metricsWords } from './metricsWords.ts';
import { agentPlace } from './place.ts';
import { watchPreemption } from './preemption.ts';
import { AGENT_BEGINS } from './starters/ssh.ts';

export interface RunAgentOptions {
  readonly join?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly stdio?: boolean | undefined;
  readonly node?: string | undefined;
  readonly nodeRank?: number | undefined;
  readonly nodes?: number | undefined;
  readonly advertise?: string | undefined;
  readonly slots?: number | undefined;
  readonly lead?: string | undefined;
  readonly runDir?: string | undefined;
  readonly collect?: boolean | undefined;
  readonly patience: number;
  readonly preemption?: string | undefined;
  readonly metricsPort?: number | undefined;
  readonly metricsHost?: string | undefined;
  readonly runMetricsPort?: number | undefined;
}

type Log = (line: string) => void;

/** What an agent that ssh starts reads from its standard input. */
const StdioPlace = z.strictObject({
  join: z.string(),
  curve: KeyFile,
  incarnation: Incarnation,
  node: z.string(),
  nodeRank: z.int().min(0),
  slots: z.int().min(1).optional(),
  advertise: z.string().optional(),
});

export async function runAgent(options: RunAgentOptions, log: Log): Promise<CommandResult> {
  const place = options.stdio ? await readStdin() : placeOf(options);
  const leads = options.lead !== undefined && place.nodeRank === 0;
  const coordinator = leads ? new CoordinatorChild(launchWords(options, place), log) : undefined;
  const agent = new Agent({ ...place, patienceSeconds: options.patience, log });
  const signals = ['SIGTERM', 'SIGUSR1', 'SIGINT'] as const;
  const onSignal = (signal: NodeJS.Signals) => agent.requestStop(signal);
  for (const signal of signals) process.on(signal, onSignal);
  if (wasAskedToStop()) onSignal('SIGUSR1');
  if (options.stdio) {
    process.stdin.on('end', () => void agent.finish(EXIT_FAILED, 'whoever started this agent is gone'));
    process.stdin.resume();
  }
  const metrics = await metricsOf(agent, place.node ?? hostname(), options, log);
  const unwatch = watchPreemption(options.preemption, (notice) => agent.requestStop(notice));
  try {
    await agent.start();
    const code = await agent.ended;
    if (agent.stoppedUnheard) await coordinator?.stop();
    coordinator?.release();
    await coordinator?.ended;
    return { text: '', json: { exitCode: code }, exitCode: code };
  } finally {
    unwatch();
    await metrics?.close();
    for (const signal of signals) process.off(signal, onSignal);
    if (options.stdio) process.stdin.destroy();
  }
}

/** That they cannot be served keeps no host from taking part. */
async function metricsOf(
  agent: Agent,
  node: string,
  { metricsPort, metricsHost = '127.0.0.1', runDir = '.' }: RunAgentOptions,
  log: Log,
): Promise<MetricsServer | undefined> {
  if (metricsPort === undefined) return undefined;
  const registry = hostMetrics({
    ...{ node, directory: runDir },
    workers: () => agent.workerCount,
    heardAgo: () => agent.coordinatorHeardAgo,
  });
  try {
    const server = await serveMetrics(registry, { host: metricsHost, port: metricsPort });
    log(`metrics for Prometheus: ${server.url}`);
    return server;
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    log(`${error.message} This host takes part without.`);
    return undefined;
  }
}

type AgentPlace = Omit<AgentOptions, 'patienceSeconds' | 'log'> & {
  /** Nodes of the run, where this agent may have to start its coordinator. */
  readonly nodes?: number | undefined;
};

async function readStdin(): Promise<AgentPlace> {
  process.stderr.write(`${AGENT_BEGINS}\n`);
  const lines = createInterface({ input: process.stdin });
  const [line] = (await once(lines, 'line')) as [string];
  lines.close();
  try {
    return StdioPlace.parse(JSON.parse(line));
  } catch {
    throw new SluiceError(
      'SLUICE_E_USAGE',
      '--stdio expects one line of JSON on standard input, as `sluice launch` writes it.',
    );
  }
}

function placeOf(options: RunAgentOptions): AgentPlace {
  const { keyFile, advertise, slots, lead } = options;
  if (keyFile === undefined) {
    throw new SluiceError('SLUICE_E_USAGE', 'sluice agent needs --key-file, or --stdio.');
  }
  const { join, nodeRank, nodes, node } = agentPlace(options, lead !== undefined, process.env);
  return {
    join,
    curve: readKeyFile(keyFile),
    node,
    nodeRank,
    nodes,
    advertise,
    slots,
    incarnation: givenIncarnation(),
  };
}

/** The command that starts the run, or goes on with it, where this agent's node listens. */
function launchWords(
  { lead, keyFile, runDir, collect, runMetricsPort, metricsHost }: RunAgentOptions,
  { join, nodes }: AgentPlace,
): readonly string[] {
  const { host, port } = parseEndpoint(join);
  const listen = formatEndpoint({ host: isLoopback(host) ? host : anyAddress(host), port });
  const flags = ['--on', 'agents', '--nodes', String(nodes), '--listen', listen, '--key-file', keyFile!];
  return [
    ...['launch', lead!, ...flags],
    ...(runDir === undefined ? [] : ['--run-dir', runDir]),
    ...(collect === undefined ? [] : [collect ? '--collect' : '--no-collect']),
    ...(runMetricsPort === undefined ? [] : metricsWords(runMetricsPort, metricsHost)),
  ];
}
