/**
 * Where an agent finds itself: its node's rank, how many nodes there are, and where the coordinator listens, out of the
 * variables of whatever started one process on each node. Nothing is assumed: a guess at any of the three would make a run
 * of each node.
 */

import { SluiceError } from '@sluice/core';
import { expandNodeList } from './nodeList.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

export type PlaceSource = 'sluice' | 'openmpi' | 'skypilot' | 'torchrun' | 'kubernetes' | 'slurm' | 'mpi';

/** What is known of an agent's place. */
export interface KnownPlace {
  /** Rank of the node that the agent is on, from 0. */
  readonly nodeRank?: number;
  /** Nodes of the run. */
  readonly nodes?: number;
  /** Where the coordinator listens: tcp://ADDRESS:PORT. */
  readonly join?: string;
  /** What the scheduler calls the node. */
  readonly node?: string;
}

/** A place as a scheduler's variables tell it. */
export interface Place extends KnownPlace {
  readonly source: PlaceSource;
  readonly nodeRank: number;
  readonly nodes: number;
}

/** Where the coordinator listens on a machine that the run has for itself. */
export const DEFAULT_PORT = 7700;

/** One way in which processes are started on nodes. */
interface Source {
  readonly name: PlaceSource;
  /** As messages call it. */
  readonly title: string;
  /** Whether this way started the process. */
  started(env: Environment): boolean;
  read(env: Environment): KnownPlace;
}

/** In the order in which they count: what is nearer to the process comes first (mpirun within a job of Slurm). */
const SOURCES: readonly Source[] = [
  { name: 'sluice', title: 'SLUICE_NODE_RANK', started: has('SLUICE_NODE_RANK'), read: sluicePlace },
  { name: 'openmpi', title: 'Open MPI', started: has('OMPI_COMM_WORLD_RANK'), read: openMpiPlace },
  { name: 'skypilot', title: 'SkyPilot', started: has('SKYPILOT_NODE_RANK'), read: skyPilotPlace },
  { name: 'torchrun', title: 'torchrun’s variables', started: startedLikeTorchrun, read: torchrunPlace },
  { name: 'kubernetes', title: 'Kubernetes', started: has('JOB_COMPLETION_INDEX'), read: kubernetesPlace },
  { name: 'slurm', title: 'Slurm', started: inSlurmStep, read: slurmPlace },
  { name: 'mpi', title: 'PMI', started: startedByPmi, read: pmiPlace },
];

/**
 * The place that variables tell.
 * @throws SLUICE_E_PLACE_UNKNOWN when they do not; SLUICE_E_PLACE_INVALID for contradictions and nonsense;
 *   SLUICE_E_PLACE_SHARED for more than one process a node
 */
export function placeFromEnvironment(env: Environment): Place {
  const place = readEnvironment(env) ?? {};
  const { source, nodeRank, nodes } = place;
  if (source === undefined || nodeRank === undefined || nodes === undefined) {
    throw unknownPlace(missing(place, ['nodeRank', 'nodes']), env);
  }
  return { ...place, source, nodeRank, nodes };
}

/**
 * The place of an agent: what its flags say, and for the rest what variables tell. They are read only where a flag is missing.
 * @param lead whether the first node's agent starts the coordinator, so that rank and number of nodes must be known
 * @throws as `placeFromEnvironment`
 */
export function agentPlace(
  flags: { readonly [fact in Fact]?: KnownPlace[fact] | undefined },
  lead: boolean,
  env: Environment,
): KnownPlace & { readonly join: string; readonly source?: PlaceSource } {
  const needed: readonly Fact[] = lead ? ['join', 'nodeRank', 'nodes'] : ['join'];
  const { join: address, nodeRank, nodes, node } = flags;
  const told: KnownPlace = {
    ...(address !== undefined && { join: address }),
    ...(nodeRank !== undefined && { nodeRank }),
    ...(nodes !== undefined && { nodes }),
    ...(node !== undefined && { node }),
  };
  const place = missing(told, needed).length === 0 ? told : { ...readEnvironment(env), ...told };
  const { join } = place;
  const lacking = missing(place, needed);
  if (join === undefined || lacking.length > 0) throw unknownPlace(lacking, env);
  refuseRankBeyond(place, '--node-rank', '--nodes');
  // Several agents on one machine are somebody's wish where it is written down.
  return { ...place, join: checkedJoin(join, '--join', undefined) };
}

type Fact = keyof KnownPlace;

function missing(place: KnownPlace, needed: readonly Fact[]): Fact[] {
  return needed.filter((fact) => place[fact] === undefined);
}

function readEnvironment(env: Environment): (KnownPlace & { readonly source?: PlaceSource }) | undefined {
  const [source, ...others] = SOURCES.filter(({ started }) => started(env));
  const own = sluiceVariables(env);
  if (!source) return Object.keys(own).length > 0 ? own : undefined;
  const place = source.read(env);
  for (const other of others) {
    // mpirun starts its daemons by a step of Slurm of its own, which counts other nodes, and PMI counts with it.
    if (source.name === 'openmpi' && (other.name === 'slurm' || other.name === 'mpi')) continue;
    refuseContradiction(source.title, place, other.title, other.read(env));
  }
  refuseContradiction(source.title, place, 'SLUICE_NODES', { ...(own.nodes && { nodes: own.nodes }) });
  return { source: source.name, ...place, ...own };
}

const FACTS = { nodeRank: 'the node’s rank', nodes: 'the number of nodes' } as const;

/** Variables that were left over from something else would make every node the first of a run of its own. */
function refuseContradiction(title: string, place: KnownPlace, otherTitle: string, other: KnownPlace): void {
  for (const [key, fact] of Object.entries(FACTS) as [keyof typeof FACTS, string][]) {
    if (place[key] === undefined || other[key] === undefined || place[key] === other[key]) continue;
    throw invalid(`${fact} is ${place[key]} by ${title}, but ${other[key]} by ${otherTitle}`, {
      [title]: place,
      [otherTitle]: other,
    });
  }
}

function sluicePlace(env: Environment): KnownPlace {
  return checkedPlace(env, 'SLUICE_NODE_RANK', 'SLUICE_NODES');
}

/** What may be told by variables of our own, whoever started the process. */
function sluiceVariables(env: Environment): KnownPlace {
  const nodes = optionalNumber(env, 'SLUICE_NODES');
  const join = env.SLUICE_JOIN;
  return {
    ...(nodes !== undefined && { nodes }),
    ...(join !== undefined && { join: checkedJoin(join, 'SLUICE_JOIN', nodes) }),
  };
}

/** Open MPI and PRRTE: https://docs.open-mpi.org/en/main/tuning-apps/environment-var.html */
function openMpiPlace(env: Environment): KnownPlace {
  refuseSeveral(env, 'OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_LOCAL_SIZE', 'mpirun');
  return checkedPlace(env, 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE');
}

function startedByPmi(env: Environment): boolean {
  return ['PMI_RANK', 'PMIX_RANK'].some((name) => env[name] !== undefined) && !inSlurmStep(env);
}

/** MPICH's and Intel's mpirun; other starters with PMIx, which do not tell how many there are. */
function pmiPlace(env: Environment): KnownPlace {
  refuseSeveral(env, 'MPI_LOCALRANKID', 'MPI_LOCALNRANKS', 'mpirun');
  return checkedPlace(env, env.PMI_RANK === undefined ? 'PMIX_RANK' : 'PMI_RANK', 'PMI_SIZE');
}

/** https://docs.skypilot.co/en/stable/running-jobs/distributed-jobs.html: the first address is that of rank 0. */
function skyPilotPlace(env: Environment): KnownPlace {
  const place = checkedPlace(env, 'SKYPILOT_NODE_RANK', 'SKYPILOT_NUM_NODES');
  const addresses = required(env, 'SKYPILOT_NODE_IPS', 'SkyPilot').trim().split(/\s+/);
  if (place.nodes !== undefined && addresses.length !== place.nodes) {
    const text = `SKYPILOT_NODE_IPS has ${addresses.length} addresses, but SKYPILOT_NUM_NODES is ${place.nodes}`;
    throw invalid(text, { SKYPILOT_NODE_IPS: addresses });
  }
  const join = joinAddress(addresses[0]!, DEFAULT_PORT, 'SKYPILOT_NODE_IPS', addresses.length);
  return { ...place, nodes: addresses.length, join };
}

/** Names of the node's rank, as torchrun, those who write its command line, and Kubeflow's trainer call it. */
const TORCHRUN_RANKS = ['GROUP_RANK', 'NODE_RANK', 'PET_NODE_RANK'] as const;
const TORCHRUN_NODES = ['GROUP_WORLD_SIZE', 'NNODES', 'PET_NNODES'] as const;

function startedLikeTorchrun(env: Environment): boolean {
  return [...TORCHRUN_RANKS, 'RANK'].some((name) => env[name] !== undefined);
}

/** https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables */
function torchrunPlace(env: Environment): KnownPlace {
  refuseSeveral(env, 'LOCAL_RANK', 'LOCAL_WORLD_SIZE', 'torchrun');
  const rankName = TORCHRUN_RANKS.find((name) => env[name] !== undefined);
  if (rankName === undefined) {
    const text = `RANK is ${env.RANK}, which may count nodes or workers, and none of ${TORCHRUN_RANKS.join(', ')} is set`;
    throw invalid(text, { RANK: env.RANK });
  }
  const nodesName = TORCHRUN_NODES.find((name) => env[name] !== undefined) ?? 'NNODES';
  const place = checkedPlace(env, rankName, nodesName);
  for (const [name, value] of [
    ['RANK', place.nodeRank],
    ['WORLD_SIZE', place.nodes],
  ] as const) {
    const perWorker = optionalNumber(env, name);
    if (perWorker === undefined || value === undefined || perWorker === value) continue;
    const text = `${name} is ${perWorker} and ${name === 'RANK' ? rankName : nodesName} ${value}: one process was started for each worker`;
    throw new SluiceError('SLUICE_E_PLACE_SHARED', `${text}, not one for each node.`, {
      details: { [name]: perWorker },
    });
  }
  const prefix = env.PET_MASTER_ADDR === undefined ? '' : 'PET_';
  const address = env[`${prefix}MASTER_ADDR`];
  // torchrun itself listens on its MASTER_PORT.
  if (address === undefined || env.TORCHELASTIC_RUN_ID !== undefined) return place;
  const port = wholeNumber(env, `${prefix}MASTER_PORT`, 'torchrun’s variables');
  return { ...place, join: joinAddress(address, port, `${prefix}MASTER_ADDR`, place.nodes) };
}

/** A pod of an Indexed Job; number of nodes and address are in the variables that our manifests set. */
function kubernetesPlace(env: Environment): KnownPlace {
  return checkedPlace(env, 'JOB_COMPLETION_INDEX', 'SLUICE_NODES');
}

/** Slurm numbers the batch script, and shells of `salloc`, from here on; a task's step has a small number. */
const FIRST_SPECIAL_STEP = 0xffff_fff0;

/** The batch script has a rank in its variables as well, always 0; only the number of the step tells a task from it. */
function inSlurmStep(env: Environment): boolean {
  return env.SLURM_STEP_ID !== undefined && Number(env.SLURM_STEP_ID) < FIRST_SPECIAL_STEP;
}

/** Variables of a step's task: https://slurm.schedmd.com/srun.html#SECTION_OUTPUT-ENVIRONMENT-VARIABLES */
function slurmPlace(env: Environment): KnownPlace {
  const nodesName = env.SLURM_STEP_NUM_NODES === undefined ? 'SLURM_NNODES' : 'SLURM_STEP_NUM_NODES';
  const nodes = wholeNumber(env, nodesName, 'Slurm');
  const place = { ...checkedPlace(env, 'SLURM_NODEID', nodesName), nodes };
  const tasks = optionalNumber(env, 'SLURM_STEP_NUM_TASKS') ?? optionalNumber(env, 'SLURM_NTASKS');
  const task = wholeNumber(env, 'SLURM_PROCID', 'Slurm');
  if ((tasks !== undefined && tasks !== place.nodes) || task !== place.nodeRank) {
    const text = `Slurm started ${tasks ?? 'several'} tasks on ${place.nodes} nodes (this is task ${task} on node ${place.nodeRank})`;
    throw new SluiceError('SLUICE_E_PLACE_SHARED', `${text}.`, { details: { tasks, task, ...place } });
  }
  const listName = env.SLURM_STEP_NODELIST === undefined ? 'SLURM_JOB_NODELIST' : 'SLURM_STEP_NODELIST';
  const names = expandNodeList(required(env, listName, 'Slurm'), listName);
  if (names.length !== place.nodes) {
    throw invalid(`${listName} names ${names.length} nodes, but there are ${place.nodes}`, { names });
  }
  const own = env.SLURMD_NODENAME;
  if (own !== undefined && place.nodeRank !== undefined && own !== names[place.nodeRank]) {
    throw invalid(`this is ${own}, but node ${place.nodeRank} of ${listName} is ${names[place.nodeRank]}`, {
      names,
    });
  }
  const port = slurmPort(wholeNumber(env, 'SLURM_JOB_ID', 'Slurm'));
  const join = joinAddress(names[0]!, port, listName, undefined);
  return { ...place, join, ...(own !== undefined && { node: own }) };
}

/** Jobs that share a node must not meet. Below the ports that systems hand out themselves, and not among those of Slurm. */
function slurmPort(jobId: number): number {
  return 10_000 + (jobId % 20_000);
}

function has(name: string): (env: Environment) => boolean {
  return (env) => env[name] !== undefined;
}

/** @throws SLUICE_E_PLACE_INVALID for a rank that there is no node for */
function checkedPlace(env: Environment, rankName: string, nodesName: string): KnownPlace {
  const nodeRank = wholeNumber(env, rankName, rankName);
  const nodes = optionalNumber(env, nodesName);
  const place = { nodeRank, ...(nodes !== undefined && { nodes }) };
  refuseRankBeyond(place, rankName, nodesName);
  return place;
}

function refuseRankBeyond({ nodeRank, nodes }: KnownPlace, rankName: string, nodesName: string): void {
  if (nodes === 0) throw invalid(`${nodesName} is 0`, { nodes });
  if (nodeRank === undefined || nodes === undefined || nodeRank < nodes) return;
  throw invalid(`${rankName} is ${nodeRank}, but ranks begin at 0 and ${nodesName} is ${nodes}`, {
    nodeRank,
    nodes,
  });
}

function refuseSeveral(env: Environment, localRank: string, localSize: string, starter: string): void {
  const rank = optionalNumber(env, localRank) ?? 0;
  const size = optionalNumber(env, localSize) ?? 1;
  if (rank === 0 && size <= 1) return;
  const text = rank > 0 ? `${localRank} is ${rank}` : `${localSize} is ${size}`;
  throw new SluiceError('SLUICE_E_PLACE_SHARED', `${starter} started several agents on this node: ${text}.`, {
    details: { [localRank]: rank, [localSize]: size },
  });
}

function required(env: Environment, name: string, title: string): string {
  const value = env[name];
  if (value !== undefined && value.trim() !== '') return value;
  throw invalid(
    `${title} should have set ${name}, which is ${value === undefined ? 'not there' : 'empty'}`,
    {},
  );
}

function wholeNumber(env: Environment, name: string, title: string): number {
  const text = required(env, name, title);
  if (/^\d{1,10}$/.test(text)) return Number(text);
  throw invalid(`${name} is ${JSON.stringify(text)}, not a whole number`, { [name]: text });
}

function optionalNumber(env: Environment, name: string): number | undefined {
  return env[name] === undefined ? undefined : wholeNumber(env, name, name);
}

/** The address of a host and a port, in the notation of ZeroMQ. */
function joinAddress(host: string, port: number, name: string, nodes: number | undefined): string {
  return checkedJoin(`tcp://${host.includes(':') ? `[${host}]` : host}:${port}`, name, nodes);
}

const JOIN = /^tcp:\/\/(?<host>[\w.-]+|\[[\da-fA-F:.]+(?:%\w+)?\]):(?<port>\d{1,5})$/;
/** Addresses that mean another machine on each of them, or none. */
const NOWHERE = /^(localhost|127\..*|0\.0\.0\.0|\[::1?\])$/i;

function checkedJoin(join: string, name: string, nodes: number | undefined): string {
  const { host = '', port = '' } = JOIN.exec(join)?.groups ?? {};
  if (host === '' || Number(port) < 1 || Number(port) > 65_535) {
    throw invalid(`${name} gives ${JSON.stringify(join)}, which is not of the form tcp://ADDRESS:PORT`, {
      join,
    });
  }
  if (nodes !== undefined && nodes > 1 && NOWHERE.test(host)) {
    throw invalid(`${name} gives ${join}, which is another machine on each of ${nodes} nodes`, { join });
  }
  return join;
}

function invalid(what: string, details: Record<string, unknown>): SluiceError {
  return new SluiceError('SLUICE_E_PLACE_INVALID', `The place of this node is not clear: ${what}.`, {
    details,
  });
}

const NAMES: Partial<Record<Fact, string>> = {
  join: 'the coordinator’s address (--join)',
  nodeRank: 'its node’s rank (--node-rank)',
  nodes: 'the number of nodes (--nodes)',
};

function unknownPlace(lacking: readonly Fact[], env: Environment): SluiceError {
  const facts = lacking.map((key) => NAMES[key]).join(' and ');
  const inJob = env.SLURM_JOB_ID !== undefined && !inSlurmStep(env);
  const hint = inJob ? ' Within a job of Slurm, `srun --ntasks-per-node=1` starts it on the nodes.' : '';
  return new SluiceError('SLUICE_E_PLACE_UNKNOWN', `This agent was not told ${facts}.${hint}`, {
    details: { missing: lacking },
  });
}
