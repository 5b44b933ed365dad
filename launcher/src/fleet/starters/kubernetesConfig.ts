/** What a cluster of Kubernetes is to be told, in a file of its own: `--on kubernetes:FILE`. */

import { z } from 'zod';

const word = z.string().min(1);
const words = z.record(word, z.string());
const mount = { mountPath: word.describe('Where pods see it.'), readOnly: z.boolean().optional() };

export const KubernetesConfig = z.strictObject({
  image: word.describe('Image with Sluice.'),
  program: z.array(word).optional().describe('Words that start Sluice in the image; `sluice` when left out.'),
  name: word.optional().describe('Name of the Job, a DNS label; the run’s when left out.'),
  namespace: word.optional(),
  nodes: z.int().min(1).optional().describe('Pods of the run, an agent each; `--nodes` says it too.'),
  config: word
    .optional()
    .describe(
      'Configuration of the run as the pods see it; the text of the one that is launched when left out.',
    ),
  runDir: word.describe('Directory of the run, in one of the volumes.'),
  dataDir: word.optional().describe('Where prepared corpora lie (SLUICE_DATA), in one of the volumes.'),
  volumes: z
    .array(z.union([z.strictObject({ ...mount, claim: word }), z.strictObject({ ...mount, hostPath: word })]))
    .min(1)
    .describe('Volumes that all pods see: claims that many nodes may write to, or paths of every node.'),
  port: z.int().min(1).max(65_535).optional().describe('Where the coordinator listens; 7700 when left out.'),
  metricsPort: z
    .int()
    .min(1)
    .max(65_534)
    .optional()
    .describe(
      'Where Prometheus finds the metrics of the run, in the first pod; those of each pod at the next port. None when left out.',
    ),
  cpus: word.optional().describe('Of each pod, in the notation of Kubernetes.'),
  memory: word.optional().describe('Of each pod, in the notation of Kubernetes.'),
  gpus: z.int().min(1).optional().describe('Of each pod.'),
  gpuResource: word.optional().describe('What the cluster calls its GPUs.'),
  sharedMemory: word.optional().describe('Shared memory of each pod, which counts as its memory.'),
  user: z
    .union([z.strictObject({ uid: z.int().min(0), gid: z.int().min(0) }), z.literal('image')])
    .optional()
    .describe('User and group of the pods, or `image` for that of the image; 1000 and 1000 when left out.'),
  graceSeconds: z.int().min(1).optional().describe('Seconds that a pod has to save when it is told to end.'),
  backoffLimit: z.int().min(0).optional().describe('Pods that may fail before the Job is given up.'),
  env: words.optional().describe('Further variables of the pods.'),
  labels: words.optional(),
  nodeSelector: words.optional(),
  tolerations: z
    .array(
      z.strictObject({
        key: word.optional(),
        operator: z.enum(['Exists', 'Equal']).optional(),
        value: word.optional(),
        effect: z.enum(['NoSchedule', 'PreferNoSchedule', 'NoExecute']).optional(),
        tolerationSeconds: z.int().min(0).optional(),
      }),
    )
    .optional(),
  imagePullSecret: word.optional(),
  serviceAccount: word.optional(),
  priorityClass: word.optional(),
  jobSet: z
    .boolean()
    .optional()
    .describe('A JobSet in place of a Job, for clusters that have its controller.'),
  kubernetesVersion: word
    .optional()
    .describe('The oldest version that must take the manifests; 1.31 when left out.'),
});
export type KubernetesConfig = z.infer<typeof KubernetesConfig>;
