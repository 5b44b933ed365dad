/**
 * Kubernetes: manifests of an Indexed Job, or of a JobSet, whose pods are one agent each. Pod 0 has the coordinator beside its
 * agent; all find it by its name. A pod that ends is replaced, and its agent joins the run again.
 */

import { SluiceError } from '@sluice/core';
import { stringify } from 'yaml';
import { EXIT_CONFIGURATION, EXIT_STOPPED_EARLY } from '../exitCode.ts';
import { configName, type KubernetesPlan, keyName, portOf, refuseInvalid } from './kubernetesPlan.ts';
import { CONTAINER, fileOf, KEY_FILE, podAnnotations, podSpec } from './kubernetesPod.ts';
import { callScheduler } from './scheduler.ts';

export type { KubernetesPlan, SharedVolume, Toleration } from './kubernetesPlan.ts';

export type Manifest = Readonly<Record<string, unknown>> & {
  readonly apiVersion: string;
  readonly kind: string;
};

/** The replicated job of a JobSet; part of its pods' names. */
const REPLICATED = 'agents';
const DEFAULT_BACKOFF_LIMIT = 6;
/** How often a JobSet that has failed begins again. */
const MOST_JOBSET_RESTARTS = 3;

/**
 * The manifests of a plan, as objects.
 * @throws SLUICE_E_STARTER_INVALID for a value that Kubernetes could not be told
 */
export function kubernetesManifests(plan: KubernetesPlan): Manifest[] {
  refuseInvalid(plan);
  return [
    ...(plan.keyText === undefined ? [] : [secret(plan, plan.keyText)]),
    ...(plan.configText === undefined ? [] : [configMap(plan, plan.config, plan.configText)]),
    // A JobSet makes a service for its pods by itself.
    ...(plan.jobSet ? [jobSet(plan)] : [headlessService(plan), job(plan)]),
  ];
}

/** The manifests as YAML, for `kubectl apply --filename -`. */
export function kubernetesText(plan: KubernetesPlan): string {
  const documents = kubernetesManifests(plan).map((manifest) =>
    stringify(manifest, { aliasDuplicateObjects: false, lineWidth: 0 }),
  );
  const missing =
    plan.keyText === undefined
      ? `# The Secret is not part of this text: kubectl create secret generic ${keyName(plan)} --from-file=${KEY_FILE}=KEY_FILE\n`
      : '';
  return missing + documents.join('---\n');
}

/** What `kubectl` said of a Job or JobSet. */
interface Found {
  readonly status?: {
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  };
}

/**
 * Hands the manifests to the cluster that `kubectl` is set up for. A Job of that name that has ended is replaced: it goes on with
 * the run.
 * @returns what kubectl said, line by line
 * @throws SLUICE_E_STARTER_MISSING (no kubectl here), SLUICE_E_STARTER_REFUSED, SLUICE_E_STARTER_INVALID
 */
export async function submitToKubernetes(plan: KubernetesPlan): Promise<string[]> {
  const input = kubernetesText(plan);
  const where = plan.namespace === undefined ? [] : ['--namespace', plan.namespace];
  const kubectl = (args: readonly string[], text?: string) =>
    callScheduler({
      program: 'kubectl',
      args: [...where, ...args],
      ...(text !== undefined && { input: text }),
    });
  const resource = `${plan.jobSet ? 'jobsets.jobset.x-k8s.io' : 'jobs.batch'}/${plan.name}`;
  const answer = await kubectl(['get', resource, '--ignore-not-found', '--output', 'json']);
  const lines: string[] = [];
  if (answer.trim() !== '') {
    if (!hasEnded(JSON.parse(answer))) {
      throw new SluiceError('SLUICE_E_STARTER_REFUSED', `${resource} is there already, and has not ended.`, {
        details: { resource, namespace: plan.namespace },
      });
    }
    lines.push(await kubectl(['delete', resource, '--wait=true']));
  }
  lines.push(await kubectl(['apply', '--filename', '-'], input));
  return lines.join('').trim().split('\n');
}

function hasEnded({ status }: Found): boolean {
  const last = ['Complete', 'Failed', 'Completed'];
  return status?.conditions?.some(({ type, status: is }) => is === 'True' && last.includes(type)) ?? false;
}

function metadata(plan: KubernetesPlan, name: string): object {
  return {
    name,
    ...(plan.namespace !== undefined && { namespace: plan.namespace }),
    labels: labels(plan),
  };
}

function labels(plan: KubernetesPlan): Record<string, string> {
  return { 'app.kubernetes.io/name': 'sluice', 'app.kubernetes.io/instance': plan.name, ...plan.labels };
}

function secret(plan: KubernetesPlan, keyText: string): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: metadata(plan, keyName(plan)),
    type: 'Opaque',
    stringData: { [KEY_FILE]: keyText },
  };
}

function configMap(plan: KubernetesPlan, path: string, configText: string): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: metadata(plan, configName(plan)),
    data: { [fileOf(path)]: configText },
  };
}

/** Gives each pod a name: NAME-INDEX.NAME. */
function headlessService(plan: KubernetesPlan): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: metadata(plan, plan.name),
    spec: {
      clusterIP: 'None',
      // Pods are ready once they have met, for which they need the name.
      publishNotReadyAddresses: true,
      selector: { 'job-name': plan.name },
      ports: [{ name: 'control', port: portOf(plan) }],
    },
  };
}

function job(plan: KubernetesPlan): Manifest {
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: metadata(plan, plan.name),
    spec: jobSpec(plan, `${plan.name}-0.${plan.name}`, { subdomain: plan.name }),
  };
}

function jobSet(plan: KubernetesPlan): Manifest {
  const leader = `${plan.name}-${REPLICATED}-0-0.${plan.name}`;
  return {
    apiVersion: 'jobset.x-k8s.io/v1alpha2',
    kind: 'JobSet',
    metadata: metadata(plan, plan.name),
    spec: {
      network: { enableDNSHostnames: true, publishNotReadyAddresses: true },
      failurePolicy: {
        maxRestarts: MOST_JOBSET_RESTARTS,
        rules: [{ name: 'configuration', action: 'FailJobSet', onJobFailureReasons: ['PodFailurePolicy'] }],
      },
      replicatedJobs: [
        {
          name: REPLICATED,
          replicas: 1,
          template: { metadata: { labels: labels(plan) }, spec: jobSpec(plan, leader, {}) },
        },
      ],
    },
  };
}

function jobSpec(plan: KubernetesPlan, leader: string, network: { readonly subdomain?: string }): object {
  const annotations = podAnnotations(plan);
  return {
    completions: plan.nodes,
    parallelism: plan.nodes,
    completionMode: 'Indexed',
    backoffLimit: plan.backoffLimit ?? DEFAULT_BACKOFF_LIMIT,
    // The successor of a pod starts only when that has ended: no node computes twice.
    podReplacementPolicy: 'Failed',
    podFailurePolicy: {
      rules: [
        { action: 'FailJob', onExitCodes: onExitCode(EXIT_CONFIGURATION) },
        // It ends so only if it has gained something, and so cannot go on for ever.
        { action: 'Ignore', onExitCodes: onExitCode(EXIT_STOPPED_EARLY) },
        // Preempted, evicted, drained.
        { action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }] },
      ],
    },
    // The coordinator's word counts: a pod that was replaced at the very end would wait for it in vain.
    ...(hasSuccessPolicy(plan) && { successPolicy: { rules: [{ succeededIndexes: '0' }] } }),
    template: {
      metadata: { labels: labels(plan), ...(annotations && { annotations }) },
      spec: podSpec(plan, leader, network),
    },
  };
}

function onExitCode(code: number): object {
  return { containerName: CONTAINER, operator: 'In', values: [code] };
}

/** Successful by chosen indexes: on by default from 1.31 on, and refused as an unknown field before 1.30. */
function hasSuccessPolicy({ kubernetesVersion = '1.31' }: KubernetesPlan): boolean {
  const [major = 0, minor = 0] = kubernetesVersion.split('.').map(Number);
  return major > 1 || minor >= 31;
}
