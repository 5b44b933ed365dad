/** What a run needs to be told of to Kubernetes. */

import { SluiceError } from '@sluice/core';
import { DEFAULT_PORT } from '../place.ts';

/** A volume that all pods see: a claim that many nodes may write to, or a path that is the same on every node. */
export type SharedVolume = { readonly mountPath: string; readonly readOnly?: boolean } & (
  | { readonly claim: string }
  | { readonly hostPath: string }
);

export interface KubernetesPlan {
  /** Name of the Job, and of what belongs to it: a DNS label. */
  readonly name: string;
  readonly namespace?: string;
  readonly image: string;
  /** Words that start Sluice in the image; `sluice` when left out. */
  readonly program?: readonly string[];
  /** Configuration of the run, as the pods see it. */
  readonly config: string;
  /** Text of the configuration, where the image does not hold it: it is put at `config`, alone in its folder. */
  readonly configText?: string;
  /** Directory of the run, in one of the volumes. */
  readonly runDir: string;
  /** Content of the key file. Left out, the Secret `NAME-key` must be there already, with the file as `key.json`. */
  readonly keyText?: string;
  readonly nodes: number;
  /** Whether only the first pod sees the run's directory; as the configuration says when left out. */
  readonly collect?: boolean;
  /** Where the coordinator listens. */
  readonly port?: number;
  /** Where the first pod serves metrics of the run; each pod serves those of its own at the next port. None when left out. */
  readonly metricsPort?: number;
  readonly volumes: readonly SharedVolume[];
  /** Where prepared corpora lie (`SLUICE_DATA`), in one of the volumes. */
  readonly dataDir?: string;
  /** Of each pod, in the notation of Kubernetes. */
  readonly cpus?: string;
  readonly memory?: string;
  readonly gpus?: number;
  /** What the cluster calls its GPUs. */
  readonly gpuResource?: string;
  /** Shared memory of each pod, which counts as its memory: the workers of a node exchange their parts of the step there. */
  readonly sharedMemory?: string;
  /** User and group of the pods, or `image` for that of the image; 1000 and 1000, those of our image, when left out. */
  readonly user?: PodUser | 'image';
  /** Seconds that a pod has to save when it is told to end. */
  readonly graceSeconds?: number;
  /** Pods that may fail (for other reasons than preemption, or having saved) before the Job is given up. */
  readonly backoffLimit?: number;
  /** Further variables of the pods. */
  readonly env?: Readonly<Record<string, string>>;
  readonly labels?: Readonly<Record<string, string>>;
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly tolerations?: readonly Toleration[];
  readonly imagePullSecret?: string;
  readonly serviceAccount?: string;
  readonly priorityClass?: string;
  /** A JobSet in place of a Job, for clusters that have its controller. */
  readonly jobSet?: boolean;
  /** The oldest version of Kubernetes that must take the manifests; 1.31 when left out. */
  readonly kubernetesVersion?: string;
}

export interface PodUser {
  readonly uid: number;
  readonly gid: number;
}

export interface Toleration {
  readonly key?: string;
  readonly operator?: 'Exists' | 'Equal';
  readonly value?: string;
  readonly effect?: 'NoSchedule' | 'PreferNoSchedule' | 'NoExecute';
  readonly tolerationSeconds?: number;
}

export const keyName = ({ name }: KubernetesPlan) => `${name}-key`;
export const configName = ({ name }: KubernetesPlan) => `${name}-config`;
/** Where the coordinator listens. */
export const portOf = ({ port = DEFAULT_PORT }: KubernetesPlan) => port;

/** Names of pods add an index to that of the Job, and are names of hosts, 63 characters. */
const MOST_NAME_CHARACTERS = 50;
const DNS_LABEL = /^[a-z](?:[a-z0-9-]*[a-z0-9])?$/;
const QUANTITY = /^\d+(\.\d+)?([numkMGTPE]|[KMGTPE]i|e\d+)?$/;

/** @throws SLUICE_E_STARTER_INVALID for a value that Kubernetes could not be told */
export function refuseInvalid(plan: KubernetesPlan): void {
  const demand = (holds: boolean, what: string) => {
    if (holds) return;
    throw new SluiceError('SLUICE_E_STARTER_INVALID', `Kubernetes cannot be told to start the run: ${what}.`);
  };
  const count = (what: string, value: number | undefined, least: number) =>
    demand(value === undefined || (Number.isInteger(value) && value >= least), `${what} is ${value}`);
  demand(
    DNS_LABEL.test(plan.name) && plan.name.length <= MOST_NAME_CHARACTERS,
    `the name ${JSON.stringify(plan.name)} must have small letters, digits and dashes, begin with a letter, and have at most ${MOST_NAME_CHARACTERS} characters`,
  );
  demand(
    plan.namespace === undefined || (DNS_LABEL.test(plan.namespace) && plan.namespace.length <= 63),
    `the namespace is ${JSON.stringify(plan.namespace)}`,
  );
  demand(/^\S+$/.test(plan.image), `the image is ${JSON.stringify(plan.image)}`);
  count('the number of nodes', plan.nodes, 1);
  count('the number of GPUs', plan.gpus, 1);
  count('the grace', plan.graceSeconds, 1);
  count('the limit of failures', plan.backoffLimit, 0);
  count('the port', plan.port, 1);
  count('the port of the metrics', plan.metricsPort, 1);
  demand((plan.metricsPort ?? 1) <= 65_534, `the port of the metrics is ${plan.metricsPort}`);
  demand(portOf(plan) <= 65_535, `the port is ${plan.port}`);
  for (const key of ['cpus', 'memory', 'sharedMemory'] as const) {
    demand(QUANTITY.test(plan[key] ?? '1'), `${key} is ${JSON.stringify(plan[key])}, which is no quantity`);
  }
  demand(
    /^1\.\d+$/.test(plan.kubernetesVersion ?? '1.31'),
    `the version of Kubernetes is ${JSON.stringify(plan.kubernetesVersion)}`,
  );
  const mountPaths = plan.volumes.map(({ mountPath }) => mountPath);
  for (const path of [...mountPaths, plan.runDir, plan.config, ...(plan.dataDir ? [plan.dataDir] : [])]) {
    demand(path.startsWith('/') && path !== '/', `the path ${JSON.stringify(path)} does not begin with /`);
  }
  const repeated = mountPaths.find((path, index) => mountPaths.indexOf(path) < index);
  demand(repeated === undefined, `two volumes are mounted at ${repeated}`);
  demand(
    mountPaths.some((path) => `${plan.runDir}/`.startsWith(`${path.replace(/\/$/, '')}/`)),
    `the run directory ${plan.runDir} is in none of the volumes (${mountPaths.join(', ') || 'there are none'}), and would be lost with its pod`,
  );
}
