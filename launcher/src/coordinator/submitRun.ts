/** Hands a run to a scheduler, which starts its agents, and starts them again until it is done. */

import { existsSync, readFileSync } from 'node:fs';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { generateCurveKeys } from '@sluice/collectives';
import { loadYamlConfig, makeDirectories, SluiceError, shippedFile, writeFileAtomic } from '@sluice/core';
import { recipesOf } from '@sluice/data';
import { RunConfig } from '@sluice/train';
import { stringify } from 'yaml';
import type { CommandResult } from '../cli/command.ts';
import type { HostsPlan } from '../fleet/hostsPlan.ts';
import { makeKeyFile, readKeyFile } from '../fleet/keyFile.ts';
import { agentsPort } from '../fleet/metricsWords.ts';
import { kubernetesText, submitToKubernetes } from '../fleet/starters/kubernetes.ts';
import { KubernetesConfig } from '../fleet/starters/kubernetesConfig.ts';
import type { KubernetesPlan } from '../fleet/starters/kubernetesPlan.ts';
import { type SlurmPlan, slurmScript, submitToSlurm } from '../fleet/starters/slurm.ts';
import { SlurmConfig } from '../fleet/starters/slurmConfig.ts';
import { PROGRAM } from '../program.ts';
import { runName } from '../run/runDirectory.ts';
import { configInRun } from '../run/runPaths.ts';
import type { LaunchRunOptions } from './launchOptions.ts';

type Log = (line: string) => void;

/** The key of a run that is started by something else, beside its other files. */
const KEY_FILE = 'cluster.key';

/** The configuration that is launched, as it was when it was. */
const LAUNCHED = 'launch.yaml';

/**
 * Writes a batch script into the run's directory and submits it, or shows it.
 * @throws as `submitToSlurm`; SLUICE_E_USAGE, and the coded errors of `loadYamlConfig`
 */
export async function submitBySlurm(
  options: LaunchRunOptions,
  hosts: HostsPlan,
  config: RunConfig,
  runDir: string,
  log: Log,
): Promise<CommandResult> {
  refuseUnheard(options, hosts, UNHEARD_IN_JOBS);
  const { file } = hosts;
  const { nodes, name, ...told } =
    file === undefined ? SlurmConfig.parse({}) : loadYamlConfig(file, SlurmConfig);
  const path = resolve(runDir);
  const keyFile = resolve(hosts.keyFile ?? join(path, KEY_FILE));
  const plan = {
    ...told,
    name: name ?? runName(config, options.config),
    program: [process.execPath, PROGRAM],
    runs: [{ config: join(path, LAUNCHED), runDir: path, keyFile }],
    nodes: nodesOf(hosts, nodes),
    ...(options.metricsPort !== undefined && {
      metrics: { port: agentsPort(options.metricsPort), host: options.metricsHost },
    }),
  } as SlurmPlan;
  if (options.dryRun) {
    const script = slurmScript(plan);
    return { text: script, json: { script, runDir: path } };
  }
  makeDirectories(path);
  if (!existsSync(keyFile)) makeKeyFile(keyFile);
  const launched = { ...config, hosts: { ...config.hosts, collect: hosts.collect } };
  await writeFileAtomic(join(path, LAUNCHED), stringify(configInRun(path, launched as RunConfig)));
  const submission = await submitToSlurm(plan);
  log(`submitted; what it says goes to ${submission.output}`);
  return { text: `job ${submission.jobId}`, json: { ...submission, runDir: path } };
}

/**
 * Makes the manifests and hands them to `kubectl`, or shows them.
 * @throws as `submitToKubernetes`; SLUICE_E_USAGE, and the coded errors of `loadYamlConfig`
 */
export async function submitToCluster(
  options: LaunchRunOptions,
  hosts: HostsPlan,
  config: RunConfig,
): Promise<CommandResult> {
  const { file } = hosts;
  if (file === undefined) {
    throw new SluiceError(
      'SLUICE_E_USAGE',
      '--on kubernetes needs a file that names image and volumes: kubernetes:FILE.',
    );
  }
  refuseUnheard(options, hosts, UNHEARD_IN_PODS);
  const { nodes, name, config: seen, ...told } = loadYamlConfig(file, KubernetesConfig);
  const text = readFileSync(shippedFile(options.config), 'utf8');
  if (seen === undefined && /^extends:/m.test(text)) {
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `${options.config} extends another file, which the pods do not see: put both into the image, and name the path there by config.`,
    );
  }
  if (seen === undefined) refuseUnseenPaths(options.config);
  const keys = hosts.keyFile === undefined ? generateCurveKeys() : readKeyFile(hosts.keyFile);
  const plan = {
    ...told,
    name: (name ?? runName(config, options.config)).toLowerCase().replaceAll(/[^a-z0-9-]/g, '-'),
    nodes: nodesOf(hosts, nodes),
    collect: options.collect,
    ...(options.metricsPort !== undefined && { metricsPort: options.metricsPort }),
    config: seen ?? '/etc/sluice/train.yaml',
    ...(seen === undefined && { configText: text }),
    // What is shown may be kept where a secret should not be.
    ...(options.dryRun ? {} : { keyText: JSON.stringify(keys) }),
  } as KubernetesPlan;
  if (options.dryRun) {
    const manifests = kubernetesText(plan);
    return { text: manifests, json: { manifests } };
  }
  const lines = await submitToKubernetes(plan);
  return { text: lines.join('\n'), json: { said: lines, name: plan.name, directory: dirname(plan.runDir) } };
}

type Unheard = Readonly<Partial<Record<keyof LaunchRunOptions, string>>>;

/** Flags that the coordinator on the first node would not hear of, and what to do in their place. */
const UNHEARD_IN_JOBS: Unheard = {
  untilStep: 'leave it out',
  moreSteps: 'leave it out',
  listen: 'leave it out',
  advertise: 'leave it out',
  sshCommand: 'leave it out',
  watch: 'show the run by `sluice watch`, on a machine that sees its directory',
  watchPort: 'leave it out',
};
const UNHEARD_IN_PODS: Unheard = {
  ...UNHEARD_IN_JOBS,
  metricsHost: 'leave it out, since pods serve metrics to the whole cluster',
  runDir: 'write runDir into the file of the cluster',
  set: 'write it into the configuration',
  workers: 'write it into the configuration',
  expertParallel: 'write it into the configuration',
  threads: 'write it into the configuration',
};

function refuseUnheard(options: LaunchRunOptions, hosts: HostsPlan, unheard: Unheard): void {
  for (const [key, instead] of Object.entries(unheard)) {
    const isGiven = options[key as keyof LaunchRunOptions] !== undefined;
    if (!isGiven && hosts[key as keyof HostsPlan] === undefined) continue;
    const flag = isGiven
      ? `--${key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
      : `hosts.${key}`;
    throw new SluiceError('SLUICE_E_USAGE', `--on ${hosts.starter} takes no ${flag}: ${instead}.`, {
      details: { flag },
    });
  }
}

/** The text of a configuration comes along, what it names does not. */
function refuseUnseenPaths(path: string): void {
  const { data, initialize } = loadYamlConfig(shippedFile(path), RunConfig);
  for (const [key, named] of [
    ...recipesOf(data).map(
      (recipe) => [data.mixture ? 'data.mixture.recipes' : 'data.recipe', recipe] as const,
    ),
    ['initialize.from', initialize.from],
  ] as const) {
    if (named === undefined || isAbsolute(named)) continue;
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `${key} is ${named} in ${path}, which the pods do not see: write the path that they have there, or name a configuration of the image or of a volume by config in the file of the cluster.`,
      { details: { key, path: named } },
    );
  }
}

function nodesOf({ nodes, starter }: HostsPlan, told: number | undefined): number {
  const count = nodes ?? told;
  if (count !== undefined) return count;
  throw new SluiceError(
    'SLUICE_E_USAGE',
    `--on ${starter} needs the number of nodes: --nodes, hosts.nodes in the configuration, or nodes in its file.`,
  );
}
