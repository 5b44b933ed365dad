import { z } from 'zod';

/** Who starts the agents of a run's hosts. */
export const STARTERS = ['local', 'ssh', 'slurm', 'kubernetes', 'agents'] as const;
export type Starter = (typeof STARTERS)[number];

const ListedHost = z.strictObject({
  name: z
    .string()
    .regex(/^(?!-)[\w.@-]+$/)
    .describe('As ssh knows it: NAME or USER@NAME.'),
  slots: z.int().min(1).optional().describe('Workers that it takes; any number when left out.'),
  address: z
    .string()
    .min(1)
    .optional()
    .describe('Number by which the others reach it, where that is not found out.'),
  node: z.string().min(1).optional().describe('Program that runs JavaScript there; `node` when left out.'),
  sluice: z
    .string()
    .min(1)
    .optional()
    .describe('Path of `sluice.js` there; that of this host when left out.'),
});

/** The hosts that `sluice launch` brings together, where its flags do not say it. None of it changes a bit of the result. */
export const HostsConfig = z
  .strictObject({
    on: z
      .enum(STARTERS)
      .default('local')
      .describe(
        'Who starts the agents of the hosts: nobody (this machine alone), ssh, Slurm, Kubernetes, or something else (agents).',
      ),
    file: z
      .string()
      .min(1)
      .meta({ format: 'path' })
      .optional()
      .describe(
        'ssh: a host a line; slurm, kubernetes: what the cluster is told (YAML). Relative paths start from the configuration file.',
      ),
    list: z.array(ListedHost).min(1).optional().describe('ssh: the hosts, in place of a file.'),
    nodes: z.int().min(1).optional().describe('agents, slurm, kubernetes: how many hosts there are.'),
    listen: z
      .string()
      .min(1)
      .optional()
      .describe(
        'Where agents join: tcp://ADDRESS:PORT; a free port of the address that leads to the hosts when left out.',
      ),
    advertise: z
      .string()
      .min(1)
      .optional()
      .describe('Number by which hosts reach this machine, where that is not found out.'),
    keyFile: z
      .string()
      .min(1)
      .meta({ format: 'path' })
      .optional()
      .describe('Key of the connections between hosts; a new one when left out.'),
    protection: z
      .enum(['encrypted', 'authenticated'])
      .default('encrypted')
      .describe(
        'How what workers of different hosts send each other is protected: encrypted, or authenticated: whoever sees the network can read it but not change it, for a fraction of the processor time. All else between hosts is encrypted.',
      ),
    collect: z
      .boolean()
      .default(false)
      .describe(
        'Whether hosts do not see the run’s directory: checkpoints, and a corpus that they lack, go through the coordinator.',
      ),
    sshCommand: z.string().min(1).optional().describe('ssh: program and first words in place of `ssh`.'),
  })
  .superRefine(({ on, file, list }, context) => {
    const fault = (key: string, message: string) =>
      context.addIssue({ code: 'custom', path: [key], message });
    if (list !== undefined && on !== 'ssh') fault('list', `is for ssh only, but hosts.on is ${on}`);
    if (file !== undefined && (on === 'local' || on === 'agents')) fault('file', `says nothing to ${on}`);
    if (on === 'ssh' && (file === undefined) === (list === undefined))
      fault('on', 'ssh needs either hosts.file or hosts.list');
    if (on === 'kubernetes' && file === undefined)
      fault('on', 'kubernetes needs hosts.file, which names image and volumes');
    const names = list?.map(({ name }) => name) ?? [];
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice !== undefined) fault('list', `${twice} is there twice`);
  });
export type HostsConfig = z.infer<typeof HostsConfig>;
