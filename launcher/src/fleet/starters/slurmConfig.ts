/** What a cluster's Slurm is to be told, in a file of its own: `--on slurm:FILE`. */

import { z } from 'zod';

const word = z.string().min(1);

export const SlurmConfig = z.strictObject({
  name: word.optional().describe('Name of the job, after `sluice-`; the run’s when left out.'),
  nodes: z.int().min(1).optional().describe('Nodes of the run; `--nodes` says it too.'),
  timeLimit: word
    .optional()
    .describe('As Slurm writes it: 90 (minutes), 12:00:00, 2-00:00:00; that of the partition when left out.'),
  graceSeconds: z
    .int()
    .min(1)
    .optional()
    .describe('Seconds before the time limit at which the run is asked to save and stop; 300 when left out.'),
  requeues: z
    .int()
    .min(0)
    .optional()
    .describe('How often at most the job goes into the queue again; 100 when left out.'),
  partition: word.optional().describe('Partition of the job.'),
  account: word.optional().describe('Account that is charged.'),
  qos: word.optional().describe('Quality of service.'),
  constraint: word.optional().describe('Features that the nodes must have.'),
  exclude: word.optional().describe('Nodes to keep away from, as Slurm lists them.'),
  gpusPerNode: word.optional().describe('GPUs of each node: 8, or a100:4.'),
  cpusPerNode: z.int().min(1).optional().describe('Cores of each node; whole nodes when left out.'),
  memory: word.optional().describe('Memory of each node, as Slurm writes it: 64G.'),
  sbatch: z.array(word).optional().describe('Further options of sbatch, one each: --mail-type=FAIL.'),
});
export type SlurmConfig = z.infer<typeof SlurmConfig>;
