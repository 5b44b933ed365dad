import test from 'ava';
import {
  agentPlace,
  type Environment,
  type Place,
  placeFromEnvironment,
} from '../../../launcher/src/fleet/place.ts';

/** What a task of `srun --ntasks-per-node=1` on two nodes finds. */
const SLURM: Environment = {
  SLURM_JOB_ID: '4711',
  SLURM_STEP_ID: '0',
  SLURM_NNODES: '3',
  SLURM_JOB_NODELIST: 'n[1-3]',
  SLURM_STEP_NUM_NODES: '2',
  SLURM_STEP_NUM_TASKS: '2',
  SLURM_STEP_NODELIST: 'n[2-3]',
  SLURM_NODEID: '1',
  SLURM_PROCID: '1',
  SLURM_LOCALID: '0',
  SLURMD_NODENAME: 'n3',
};

const KUBERNETES: Environment = {
  JOB_COMPLETION_INDEX: '2',
  SLUICE_NODES: '3',
  SLUICE_JOIN: 'tcp://train-0.train:7700',
};

const OPEN_MPI: Environment = {
  OMPI_COMM_WORLD_RANK: '1',
  OMPI_COMM_WORLD_SIZE: '4',
  OMPI_COMM_WORLD_LOCAL_RANK: '0',
  OMPI_COMM_WORLD_LOCAL_SIZE: '1',
  PMIX_RANK: '1',
};

const TORCHRUN: Environment = {
  MASTER_ADDR: 'head.example',
  MASTER_PORT: '29500',
  NODE_RANK: '1',
  NNODES: '2',
};

const SKYPILOT: Environment = {
  SKYPILOT_NODE_RANK: '1',
  SKYPILOT_NUM_NODES: '2',
  SKYPILOT_NODE_IPS: '10.0.0.5\n10.0.0.6',
};

const PLACES: Readonly<Record<string, readonly [Environment, Place]>> = {
  'a step of Slurm': [SLURM, { source: 'slurm', nodeRank: 1, nodes: 2, join: 'tcp://n2:14711', node: 'n3' }],
  'a step of Slurm that does not name its own nodes': [
    {
      SLURM_JOB_ID: '20000',
      SLURM_STEP_ID: '3',
      SLURM_NNODES: '2',
      SLURM_JOB_NODELIST: 'gpu-[001-002]',
      SLURM_NTASKS: '2',
      SLURM_NODEID: '0',
      SLURM_PROCID: '0',
    },
    { source: 'slurm', nodeRank: 0, nodes: 2, join: 'tcp://gpu-001:10000' },
  ],
  'an Indexed Job': [
    KUBERNETES,
    { source: 'kubernetes', nodeRank: 2, nodes: 3, join: 'tcp://train-0.train:7700' },
  ],
  'Open MPI': [OPEN_MPI, { source: 'openmpi', nodeRank: 1, nodes: 4 }],
  'Open MPI, told where the coordinator is': [
    { ...OPEN_MPI, SLUICE_JOIN: 'tcp://10.1.2.3:7700' },
    { source: 'openmpi', nodeRank: 1, nodes: 4, join: 'tcp://10.1.2.3:7700' },
  ],
  'Open MPI within a job of Slurm, whose step counts only the other nodes': [
    { ...OPEN_MPI, ...SLURM, SLURM_STEP_NUM_NODES: '3', SLURM_STEP_NUM_TASKS: '3', SLURM_NODEID: '0' },
    { source: 'openmpi', nodeRank: 1, nodes: 4 },
  ],
  'the mpirun of MPICH': [
    { PMI_RANK: '0', PMI_SIZE: '2', MPI_LOCALRANKID: '0', MPI_LOCALNRANKS: '1' },
    { source: 'mpi', nodeRank: 0, nodes: 2 },
  ],
  'variables in the style of torchrun': [
    TORCHRUN,
    { source: 'torchrun', nodeRank: 1, nodes: 2, join: 'tcp://head.example:29500' },
  ],
  'such variables with an IPv6 address': [
    { ...TORCHRUN, MASTER_ADDR: 'fd00::5' },
    { source: 'torchrun', nodeRank: 1, nodes: 2, join: 'tcp://[fd00::5]:29500' },
  ],
  'torchrun itself, which listens on its MASTER_PORT': [
    {
      MASTER_ADDR: 'head.example',
      MASTER_PORT: '29500',
      GROUP_RANK: '1',
      GROUP_WORLD_SIZE: '2',
      RANK: '1',
      WORLD_SIZE: '2',
      LOCAL_RANK: '0',
      LOCAL_WORLD_SIZE: '1',
      TORCHELASTIC_RUN_ID: 'none',
      SLUICE_JOIN: 'tcp://head.example:7700',
    },
    { source: 'torchrun', nodeRank: 1, nodes: 2, join: 'tcp://head.example:7700' },
  ],
  'Kubeflow’s trainer, whose pods are those of an Indexed Job': [
    {
      PET_NNODES: '2',
      PET_NODE_RANK: '1',
      PET_MASTER_ADDR: 'run-node-0-0.run',
      PET_MASTER_PORT: '29400',
      JOB_COMPLETION_INDEX: '1',
    },
    { source: 'torchrun', nodeRank: 1, nodes: 2, join: 'tcp://run-node-0-0.run:29400' },
  ],
  SkyPilot: [SKYPILOT, { source: 'skypilot', nodeRank: 1, nodes: 2, join: 'tcp://10.0.0.5:7700' }],
  'variables of our own': [
    { SLUICE_NODE_RANK: '1', SLUICE_NODES: '2', SLUICE_JOIN: 'tcp://a:1' },
    { source: 'sluice', nodeRank: 1, nodes: 2, join: 'tcp://a:1' },
  ],
};

for (const [title, [env, place]] of Object.entries(PLACES)) {
  test(`${title}: the place is known`, (t) => {
    t.deepEqual(placeFromEnvironment({ PATH: '/usr/bin', HOME: '/root', ...env }), place);
  });
}

const REFUSED: Readonly<Record<string, readonly [Environment, string, RegExp]>> = {
  'nothing at all': [{}, 'UNKNOWN', /--node-rank.*--nodes/],
  'the batch script of a job of Slurm, whose rank is always 0': [
    {
      SLURM_JOB_ID: '1',
      SLURM_NODEID: '0',
      SLURM_PROCID: '0',
      SLURM_NNODES: '2',
      SLURM_JOB_NODELIST: 'n[1-2]',
    },
    'UNKNOWN',
    /srun --ntasks-per-node=1/,
  ],
  'the shell of an interactive job of Slurm': [
    { ...SLURM, SLURM_STEP_ID: '4294967290' },
    'UNKNOWN',
    /srun --ntasks-per-node=1/,
  ],
  'several tasks of Slurm on a node': [
    { ...SLURM, SLURM_STEP_NUM_TASKS: '4', SLURM_PROCID: '2' },
    'SHARED',
    /4 tasks on 2 nodes/,
  ],
  'a list of Slurm that does not fit': [
    { ...SLURM, SLURM_STEP_NODELIST: 'n[1-3]' },
    'INVALID',
    /SLURM_STEP_NODELIST names 3 nodes, but there are 2/,
  ],
  'another node than Slurm’s list says': [{ ...SLURM, SLURMD_NODENAME: 'n2' }, 'INVALID', /this is n2/],
  'a list of Slurm that cannot be read': [{ ...SLURM, SLURM_STEP_NODELIST: 'n[2-' }, 'INVALID', /n\[2-/],
  'a rank beyond the nodes': [
    { ...KUBERNETES, JOB_COMPLETION_INDEX: '3' },
    'INVALID',
    /3.*SLUICE_NODES is 3/,
  ],
  'an Indexed Job that does not tell the number of nodes': [
    { JOB_COMPLETION_INDEX: '0' },
    'UNKNOWN',
    /--nodes/,
  ],
  'no nodes': [{ ...KUBERNETES, SLUICE_NODES: '0' }, 'INVALID', /SLUICE_NODES is 0/],
  'a template that was not filled in': [{ ...TORCHRUN, NODE_RANK: '' }, 'INVALID', /NODE_RANK.*empty/],
  'a number that is none': [{ ...TORCHRUN, NODE_RANK: '$RANK' }, 'INVALID', /NODE_RANK is "\$RANK"/],
  'a range of nodes': [{ ...TORCHRUN, NNODES: '1:4' }, 'INVALID', /NNODES is "1:4"/],
  'several processes of Open MPI on a node': [
    { ...OPEN_MPI, OMPI_COMM_WORLD_LOCAL_RANK: '1', OMPI_COMM_WORLD_LOCAL_SIZE: '2' },
    'SHARED',
    /OMPI_COMM_WORLD_LOCAL_RANK is 1/,
  ],
  'several processes of Open MPI on a node, seen by its first': [
    { ...OPEN_MPI, OMPI_COMM_WORLD_LOCAL_SIZE: '2' },
    'SHARED',
    /OMPI_COMM_WORLD_LOCAL_SIZE is 2/,
  ],
  'a starter with PMIx that does not tell the number': [{ PMIX_RANK: '0' }, 'UNKNOWN', /--nodes/],
  'torchrun with a process for each worker': [
    { ...TORCHRUN, RANK: '9', LOCAL_RANK: '1', WORLD_SIZE: '16', LOCAL_WORLD_SIZE: '8' },
    'SHARED',
    /LOCAL_RANK is 1/,
  ],
  'ranks of workers beside ranks of nodes': [
    { ...TORCHRUN, RANK: '8' },
    'SHARED',
    /RANK is 8 and NODE_RANK 1/,
  ],
  'a size in workers beside a number of nodes': [
    { ...TORCHRUN, WORLD_SIZE: '16' },
    'SHARED',
    /WORLD_SIZE is 16 and NNODES 2/,
  ],
  'a RANK that may count workers': [{ RANK: '1', WORLD_SIZE: '2' }, 'INVALID', /RANK is 1.*NODE_RANK/],
  'an address without a port': [{ ...TORCHRUN, MASTER_PORT: undefined }, 'INVALID', /MASTER_PORT.*not there/],
  'a port that is none': [{ ...TORCHRUN, MASTER_PORT: '99999' }, 'INVALID', /tcp:\/\/head\.example:99999/],
  'an address that is another machine on each': [
    { ...TORCHRUN, MASTER_ADDR: 'localhost' },
    'INVALID',
    /MASTER_ADDR.*localhost.*each of 2 nodes/,
  ],
  'SkyPilot with another number of addresses': [
    { ...SKYPILOT, SKYPILOT_NUM_NODES: '3' },
    'INVALID',
    /2 addresses, but SKYPILOT_NUM_NODES is 3/,
  ],
  'an address of the coordinator that is none': [
    { ...KUBERNETES, SLUICE_JOIN: 'train-0.train' },
    'INVALID',
    /SLUICE_JOIN.*tcp:\/\/ADDRESS:PORT/,
  ],
  // With the first rank of a run of one node, each node of the job would train for itself.
  'variables of torchrun left over in a job of Slurm': [
    { ...SLURM, NODE_RANK: '0', NNODES: '1', MASTER_ADDR: 'localhost', MASTER_PORT: '29500' },
    'INVALID',
    /0 by torchrun’s variables, but 1 by Slurm/,
  ],
  'an own number of nodes that contradicts the scheduler’s': [
    { ...SLURM, SLUICE_NODES: '4' },
    'INVALID',
    /2 by Slurm, but 4 by SLUICE_NODES/,
  ],
};

for (const [title, [env, code, message]] of Object.entries(REFUSED)) {
  test(`refused: ${title}`, (t) => {
    t.throws(() => placeFromEnvironment(env), { code: `SLUICE_E_PLACE_${code}`, message });
  });
}

test('variables that belong to other programs tell nothing', (t) => {
  const env = { ...SLURM, MASTER_ADDR: 'elsewhere', MASTER_PORT: '1234' };
  t.deepEqual(placeFromEnvironment(env), placeFromEnvironment(SLURM));
});

test('flags of an agent come before all variables, which tell what no flag says', (t) => {
  const flags = { join: 'tcp://10.0.0.1:9000', nodeRank: undefined, nodes: undefined } as object;
  t.like(agentPlace(flags, true, SLURM), { join: 'tcp://10.0.0.1:9000', nodeRank: 1, nodes: 2 });
  t.like(agentPlace({ nodeRank: 0 }, true, SLURM), { join: 'tcp://n2:14711', nodeRank: 0, nodes: 2 });
});

test('variables are not looked at where the flags say everything', (t) => {
  const flags = { join: 'tcp://10.0.0.1:9000', nodeRank: 1, nodes: 2 };
  t.deepEqual(agentPlace(flags, true, { NODE_RANK: 'nonsense' }), flags);
  t.deepEqual(agentPlace({ join: flags.join }, false, { NODE_RANK: 'nonsense' }), { join: flags.join });
});

test('an agent that is not told where the coordinator is ends', (t) => {
  t.throws(() => agentPlace({}, false, {}), { code: 'SLUICE_E_PLACE_UNKNOWN', message: /--join/ });
  t.throws(() => agentPlace({}, true, OPEN_MPI), { code: 'SLUICE_E_PLACE_UNKNOWN', message: /--join/ });
});

test('an agent that is to start the coordinator must know whether it is the first', (t) => {
  const flags = { join: 'tcp://10.0.0.1:9000' };
  const error = t.throws(() => agentPlace(flags, true, {}), { code: 'SLUICE_E_PLACE_UNKNOWN' });
  t.regex(error.message, /--node-rank.*--nodes/);
  t.notRegex(error.message, /--join/);
});

test('several agents of one machine may meet there, where a flag says so', (t) => {
  const flags = { join: 'tcp://127.0.0.1:9000', nodeRank: 1, nodes: 2 };
  t.deepEqual(agentPlace(flags, true, {}), flags);
});

test('flags that cannot be right are refused as variables are', (t) => {
  const code = { code: 'SLUICE_E_PLACE_INVALID' };
  t.throws(() => agentPlace({ join: 'tcp://10.0.0.1' }, false, {}), code);
  t.throws(() => agentPlace({ join: 'tcp://10.0.0.1:1', nodeRank: 2, nodes: 2 }, true, {}), code);
});
