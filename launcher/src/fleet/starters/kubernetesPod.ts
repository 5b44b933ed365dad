/** The pod of an agent: what it runs, sees, and is given. */

import { agentsPort, metricsWords } from '../metricsWords.ts';
import {
  configName,
  type KubernetesPlan,
  keyName,
  type PodUser,
  portOf,
  type Toleration,
} from './kubernetesPlan.ts';

/** Name of a pod's container. */
export const CONTAINER = 'agent';
/** The key file, in the Secret and in the pod. */
export const KEY_FILE = 'key.json';
const KEY_FOLDER = '/run/sluice/key';
const DEFAULT_GRACE_SECONDS = 120;
const DEFAULT_SHARED_MEMORY = '1Gi';
/** `node`, as which the image of the Containerfile runs. */
const DEFAULT_USER: PodUser = { uid: 1000, gid: 1000 };
const DEFAULT_GPU_RESOURCE = 'nvidia.com/gpu';
/** How long a node may be out of reach before its pod is replaced; five minutes unless it is said. */
const UNREACHABLE_SECONDS = 30;

/**
 * @param leader name of the pod that the coordinator is in
 * @param network what gives the pod its name, where the Job itself does not
 */
export function podSpec(
  plan: KubernetesPlan,
  leader: string,
  network: { readonly subdomain?: string },
): object {
  const user = userOf(plan);
  return {
    ...network,
    // The Job makes the next pod, since it judges how this one ended.
    restartPolicy: 'Never',
    terminationGracePeriodSeconds: plan.graceSeconds ?? DEFAULT_GRACE_SECONDS,
    enableServiceLinks: false,
    automountServiceAccountToken: plan.serviceAccount !== undefined,
    ...(plan.serviceAccount !== undefined && { serviceAccountName: plan.serviceAccount }),
    ...(plan.priorityClass !== undefined && { priorityClassName: plan.priorityClass }),
    ...(plan.imagePullSecret !== undefined && { imagePullSecrets: [{ name: plan.imagePullSecret }] }),
    ...(plan.nodeSelector !== undefined && { nodeSelector: plan.nodeSelector }),
    tolerations: tolerations(plan),
    ...(user !== undefined && { securityContext: podSecurity(user) }),
    containers: [container(plan, leader)],
    volumes: volumes(plan).map(({ volume }) => volume),
  };
}

/** Without a group of its own, only root could read the key. */
function userOf({ user = DEFAULT_USER }: KubernetesPlan): PodUser | undefined {
  return user === 'image' ? undefined : user;
}

function podSecurity({ uid, gid }: PodUser): object {
  return {
    runAsNonRoot: uid !== 0,
    runAsUser: uid,
    runAsGroup: gid,
    // The key's file belongs to root, and to this group.
    fsGroup: gid,
    fsGroupChangePolicy: 'OnRootMismatch',
    seccompProfile: { type: 'RuntimeDefault' },
  };
}

function tolerations(plan: KubernetesPlan): Toleration[] {
  const gone = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'].map(
    (key): Toleration => ({
      key,
      operator: 'Exists',
      effect: 'NoExecute',
      tolerationSeconds: UNREACHABLE_SECONDS,
    }),
  );
  const gpu: Toleration = { key: gpuResourceOf(plan), operator: 'Exists', effect: 'NoSchedule' };
  return [...gone, ...(plan.gpus === undefined ? [] : [gpu]), ...(plan.tolerations ?? [])];
}

function container(plan: KubernetesPlan, leader: string): object {
  const env = {
    SLUICE_NODES: String(plan.nodes),
    SLUICE_JOIN: `tcp://${leader}:${portOf(plan)}`,
    ...(plan.dataDir !== undefined && { SLUICE_DATA: plan.dataDir }),
    ...plan.env,
  };
  return {
    name: CONTAINER,
    image: plan.image,
    // No shell: it would keep the signals to itself.
    command: [...(plan.program ?? ['sluice'])],
    args: [
      'agent',
      '--lead',
      plan.config,
      '--run-dir',
      plan.runDir,
      '--key-file',
      `${KEY_FOLDER}/${KEY_FILE}`,
      ...(plan.collect === undefined ? [] : [plan.collect ? '--collect' : '--no-collect']),
      ...metricsFlags(plan),
    ],
    env: Object.entries(env).map(([name, value]) => ({ name, value })),
    ports: [{ name: 'control', containerPort: portOf(plan) }, ...metricsPorts(plan)],
    resources: resources(plan),
    securityContext: {
      allowPrivilegeEscalation: false,
      ...(userOf(plan) !== undefined && { capabilities: { drop: ['ALL'] } }),
    },
    volumeMounts: volumes(plan).map(({ mount }) => mount),
  };
}

/** Other pods than those of the run are to reach them. */
function metricsFlags({ metricsPort }: KubernetesPlan): string[] {
  if (metricsPort === undefined) return [];
  return ['--run-metrics-port', String(metricsPort), ...metricsWords(agentsPort(metricsPort), '0.0.0.0')];
}

/** Prometheus finds them by these names. */
function metricsPorts({ metricsPort }: KubernetesPlan): object[] {
  if (metricsPort === undefined) return [];
  return [
    { name: 'run-metrics', containerPort: metricsPort },
    { name: 'metrics', containerPort: agentsPort(metricsPort) },
  ];
}

/** What many a Prometheus finds pods by: at the port that every one serves, since only the first has the run's. */
export function podAnnotations({ metricsPort }: KubernetesPlan): Record<string, string> | undefined {
  if (metricsPort === undefined) return undefined;
  return { 'prometheus.io/scrape': 'true', 'prometheus.io/port': String(agentsPort(metricsPort)) };
}

function resources(plan: KubernetesPlan): object {
  const gpus = plan.gpus === undefined ? {} : { [gpuResourceOf(plan)]: plan.gpus };
  const memory = plan.memory === undefined ? {} : { memory: plan.memory };
  const cpu = plan.cpus === undefined ? {} : { cpu: plan.cpus };
  // A limit of processor time would only slow the slowest worker further.
  return { requests: { ...cpu, ...memory, ...gpus }, limits: { ...memory, ...gpus } };
}

interface MountedVolume {
  readonly volume: { readonly name: string } & Readonly<Record<string, unknown>>;
  readonly mount: object;
}

function volumes(plan: KubernetesPlan): MountedVolume[] {
  const shared = plan.volumes.map((volume, index): MountedVolume => {
    const name = `shared-${index}`;
    const readOnly = volume.readOnly ? { readOnly: true } : {};
    const source =
      'claim' in volume
        ? { persistentVolumeClaim: { claimName: volume.claim, ...readOnly } }
        : { hostPath: { path: volume.hostPath, type: 'Directory' } };
    return { volume: { name, ...source }, mount: { name, mountPath: volume.mountPath, ...readOnly } };
  });
  const config: MountedVolume[] =
    plan.configText === undefined
      ? []
      : [
          {
            volume: { name: 'config', configMap: { name: configName(plan) } },
            mount: { name: 'config', mountPath: folderOf(plan.config), readOnly: true },
          },
        ];
  return [
    {
      volume: { name: 'key', secret: { secretName: keyName(plan), defaultMode: 0o400 } },
      mount: { name: 'key', mountPath: KEY_FOLDER, readOnly: true },
    },
    // A container has 64 MiB unless it is said.
    {
      volume: {
        name: 'shared-memory',
        emptyDir: { medium: 'Memory', sizeLimit: plan.sharedMemory ?? DEFAULT_SHARED_MEMORY },
      },
      mount: { name: 'shared-memory', mountPath: '/dev/shm' },
    },
    ...config,
    ...shared,
  ];
}

const gpuResourceOf = ({ gpuResource = DEFAULT_GPU_RESOURCE }: KubernetesPlan) => gpuResource;
/** Name of the file at a path within a pod, whose separator is / on every machine. */
export const fileOf = (path: string) => path.slice(path.lastIndexOf('/') + 1);
const folderOf = (path: string) => path.slice(0, path.lastIndexOf('/'));
