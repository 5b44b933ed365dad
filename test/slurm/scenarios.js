/** What is tried on a real cluster; `scripts/testSlurm.js` starts it, in namespaces of its own. */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { submitToSlurm } from '../../launcher/dist/fleet/starters/slurm.js';
import { Sandbox } from '../e2e/support/sandbox.ts';
import { until } from '../support/until.ts';
import { startCluster } from './cluster.js';

const [directory, filter = ''] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));
// Everything that is written lies in one place.
process.env.TMPDIR = directory;
const { slurm, daemonOf } = await startCluster(directory, 4);

/** A run whose directory has a name that must be quoted. */
function standInRun(name, steps) {
  const runDir = join(directory, `it's ${name}`);
  mkdirSync(runDir);
  const config = join(runDir, 'steps.json');
  writeFileSync(config, JSON.stringify({ steps }));
  return { config, runDir, keyFile: join(directory, 'key.json') };
}

function plan(name, runs, options) {
  const program = [process.execPath, join(here, 'standInAgent.js')];
  return { name, program, runs, nodes: 1, cpusPerNode: 2, memory: '100M', timeLimit: '10', ...options };
}

const linesOf = (file) => (existsSync(file) ? readFileSync(file, 'utf8').split('\n').length - 1 : 0);

/** With few interruptions of its own. */
function realConfig(text, steps) {
  return text
    .replace('steps: 12', `steps: ${steps}`)
    .replace('parallel:', 'parallel:\n  workers: 2\n  expertParallel: 2\n  threads: 1')
    .replace(/(evaluation|diagnostics|checkpoint):\n {2}everySteps: \d+/g, '$1:\n  everySteps: 500');
}

const eventsOf = ({ runDir }) => {
  const file = join(runDir, 'events.jsonl');
  return existsSync(file)
    ? readFileSync(file, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line))
    : [];
};
const happened = (run, event) => eventsOf(run).filter((entry) => entry.event === event);

/** What Slurm says of a job: JobState, Restarts, ExitCode, NodeList… */
function jobFacts(id) {
  const text = slurm('scontrol', 'show', 'job', '-o', id) ?? '';
  return Object.fromEntries([...text.matchAll(/(\w+)=(\S*)/g)].map(([, key, value]) => [key, value]));
}

const ENDED = /^(COMPLETED|FAILED|TIMEOUT|CANCELLED|NODE_FAIL|OUT_OF_MEMORY)$/;
const ended = (id, limit = 120) =>
  until(`job ${id} has ended`, () => (ENDED.test(jobFacts(id).JobState) ? jobFacts(id) : undefined), limit);

/** Waits as long as a job gets on, however slow the machine is: until it has ended, or taken no step for a while and not been restarted. */
async function endedOrStill(id, stepsDone) {
  // A node that is silent is given up after half a minute, its job queued anew, its agents and workers started.
  const LIMIT_SECONDS = 150;
  for (let seen = '', still = 0; still < LIMIT_SECONDS; still++) {
    const { JobState, Restarts } = jobFacts(id);
    if (ENDED.test(JobState)) return;
    const now = `${Restarts} ${stepsDone()}`;
    if (now !== seen) still = 0;
    seen = now;
    await sleep(1000);
  }
}

/** Submits a job that needs the first node of another, which is less urgent. @returns its number */
function pushAside(id) {
  const where = ['-p', 'urgent', '-w', jobFacts(id).BatchHost, '-c2'];
  return slurm('sbatch', '--parsable', ...where, '-o', '/dev/null', '--wrap', 'sleep 2');
}

function demand(condition, what) {
  if (!condition) throw new Error(what);
}

/** A real run of two nodes, and what a quiet run of the same configuration gives. */
async function realRun(steps, cluster) {
  const sandbox = new Sandbox();
  const config = sandbox.write(
    'run.yaml',
    realConfig(readFileSync(join(sandbox.path, 'moe.yaml'), 'utf8'), steps),
  );
  const quiet = await sandbox.json('train run.yaml --run-dir quiet');
  sandbox.write('cluster.yaml', JSON.stringify({ cpusPerNode: 2, memory: '100M', ...cluster }));
  const { jobId } = await sandbox.json(`launch ${config} --on slurm:cluster.yaml --nodes 2 --run-dir nodes`);
  const runDir = join(sandbox.path, 'nodes');
  const stepsDone = () => linesOf(join(runDir, 'metrics.jsonl'));
  return {
    jobId,
    stepsDone,
    /** Demands that the job was done, after so many restarts at least, with the bits of the quiet run. */
    async demandDone(leastRestarts) {
      await endedOrStill(jobId, stepsDone);
      const { JobState, Restarts } = jobFacts(jobId);
      const output = readFileSync(join(runDir, `slurm/sluice-run-${jobId}.out`), 'utf8');
      demand(
        JobState === 'COMPLETED' && Number(Restarts) >= leastRestarts,
        `the job is ${JobState}, restarts ${Restarts}:\n${output}`,
      );
      const { weights } = await sandbox.json('hash nodes');
      demand(
        weights === quiet.weightsHash,
        `the weights are ${weights}, those of the quiet run ${quiet.weightsHash}`,
      );
    },
  };
}

const SCENARIOS = {
  async 'a real run that is pushed aside, and then meets its time limit: saved, queued again, done, with the bits of a quiet run'() {
    const steps = 400;
    const { jobId, stepsDone, demandDone } = await realRun(steps, { timeLimit: '2', graceSeconds: 30 });
    await until('the run is on its way', () => stepsDone() > 0.1 * steps, 300);
    pushAside(jobId);
    await until('the run was saved and waits', () => jobFacts(jobId).Restarts === '1', 60);
    // Where the machine is faster than the time limit, somebody else asks, in the same way.
    const isLate = () => stepsDone() > 0.7 * steps || jobFacts(jobId).Restarts !== '1';
    await until('the run is well on its way again', isLate, 300);
    if (jobFacts(jobId).Restarts === '1') slurm('scancel', '--batch', '--signal=USR1', jobId);
    await demandDone(2);
  },

  async 'a time limit: saved before it, queued again, gone on with, done'() {
    const run = standInRun('limit', 400);
    const { jobId } = await submitToSlurm(
      plan('limit', [run], { nodes: 2, timeLimit: '1', graceSeconds: 30 }),
    );
    const { JobState, Restarts } = await ended(jobId, 240);
    const restarts = Number(Restarts);
    demand(JobState === 'COMPLETED' && restarts > 0, `the job is ${JobState}, restarts ${Restarts}`);
    const begun = happened(run, 'begins');
    demand(begun.length === 2 * (restarts + 1), `${begun.length} agents began, in ${restarts + 1} starts`);
    for (let start = 0; start <= restarts; start++) {
      const agents = begun.filter(({ incarnation }) => incarnation === `${jobId}.${start}`);
      demand(agents.length === 2, `${agents.length} agents have the incarnation ${jobId}.${start}`);
      const leader = agents.find(({ nodeRank }) => nodeRank === 0);
      for (const { join: address, step } of agents) {
        demand(address === `tcp://${leader.node}:${10_000 + Number(jobId)}`, `an agent joined ${address}`);
        demand(start === 0 || step > 0, 'a restart began anew');
      }
    }
    demand(happened(run, 'done').length === 2, 'not both agents were done');
  },

  async 'an agent that is killed does not end the others, and the saved run goes on'() {
    const run = standInRun('killed', 150);
    const { jobId } = await submitToSlurm(plan('killed', [run], { nodes: 2 }));
    await until(
      'both agents run',
      () => existsSync(join(run.runDir, 'pid-0')) && existsSync(join(run.runDir, 'pid-1')),
    );
    process.kill(Number(readFileSync(join(run.runDir, 'pid-1'), 'utf8')), 'SIGKILL');
    const events = eventsOf(run).length;
    await sleep(2000);
    demand(eventsOf(run).length === events, 'the other agent was told to stop');
    slurm('scancel', '--batch', '--signal=USR1', jobId);
    const facts = await ended(jobId);
    demand(
      facts.JobState === 'COMPLETED' && facts.Restarts === '1',
      `the job is ${facts.JobState}, restarts ${facts.Restarts}`,
    );
  },

  async 'a job that is cancelled saves, and does not come back'() {
    const run = standInRun('cancelled', 1000);
    const { jobId } = await submitToSlurm(plan('cancelled', [run], {}));
    await until('the agent runs', () => existsSync(join(run.runDir, 'pid-0')));
    slurm('scancel', jobId);
    const facts = await ended(jobId);
    demand(facts.JobState === 'CANCELLED' && facts.Restarts === '0', `the job is ${facts.JobState}`);
    await until('the agent has saved', () => happened(run, 'saved').length === 1);
  },

  async 'a job that is pushed aside saves, and goes on later'() {
    const run = standInRun('aside', 100);
    const { jobId } = await submitToSlurm(plan('aside', [run], {}));
    await until('the agent runs', () => existsSync(join(run.runDir, 'pid-0')));
    const urgent = pushAside(jobId);
    const facts = await ended(jobId);
    demand(
      facts.JobState === 'COMPLETED' && facts.Restarts === '1',
      `the job is ${facts.JobState}, restarts ${facts.Restarts}`,
    );
    demand(happened(run, 'saved').length === 1 && happened(run, 'done').length === 1, 'it was not saved');
    demand((await ended(urgent)).JobState === 'COMPLETED', 'the urgent job was not done');
  },

  async 'an array: each task runs its own, and only the one that stopped goes on'() {
    const runs = [standInRun('array-0', 20), standInRun('array-1', 100)];
    const { jobId } = await submitToSlurm(plan('array', runs, {}));
    await until('the second agent runs', () => existsSync(join(runs[1].runDir, 'pid-0')));
    slurm('scancel', '--batch', '--signal=USR1', `${jobId}_1`);
    const facts = await Promise.all([ended(`${jobId}_0`), ended(`${jobId}_1`)]);
    demand(
      facts.every(({ JobState }) => JobState === 'COMPLETED'),
      `the tasks are ${facts.map(({ JobState }) => JobState)}`,
    );
    demand(
      facts.map(({ Restarts }) => Restarts).join() === '0,1',
      `restarts ${facts.map(({ Restarts }) => Restarts)}`,
    );
    demand(
      runs.every((run) => happened(run, 'done').length === 1),
      'not both runs are done',
    );
  },

  async 'a script that Slurm does not take is an error with its words'() {
    const run = standInRun('refused', 1);
    const error = await submitToSlurm(plan('refused', [run], { partition: 'nowhere' })).catch(
      (error) => error,
    );
    demand(
      error.code === 'SLUICE_E_STARTER_REFUSED' && /nowhere|partition/.test(error.message),
      String(error),
    );
  },
};

/** What leaves the cluster with a node less. */
const AFTERWARDS = {
  async 'a real run whose first node loses its daemon: started on others, what is left of it kept out'() {
    const { jobId, stepsDone, demandDone } = await realRun(1000, { timeLimit: '20' });
    await until('the run is on its way', () => stepsDone() > 20, 120);
    const first = jobFacts(jobId).BatchHost;
    // Slurm gives the node up after a while, and cannot end what runs on it.
    daemonOf(first).kill('SIGKILL');
    await demandDone(1);
  },
};

async function passes([title, scenario]) {
  try {
    await scenario();
    process.stdout.write(`ok ${title}\n`);
    return true;
  } catch (error) {
    process.stdout.write(`not ok ${title}\n  ${error.message}\n`);
    return false;
  }
}

/** Jobs wait for nodes that are free, so that scenarios may run beside each other. */
const allAtOnce = (scenarios) =>
  Promise.all(
    Object.entries(scenarios)
      .filter(([title]) => title.includes(filter))
      .map(passes),
  );

const results = [...(await allAtOnce(SCENARIOS)), ...(await allAtOnce(AFTERWARDS))];
const passed = results.filter(Boolean).length;
if (results.length === 0) process.stdout.write(`no scenario is called '${filter}'\n`);
process.stdout.write(`${passed} passed, ${results.length - passed} failed\n`);
process.exit(passed > 0 && passed === results.length ? 0 : 1);
