/**
 * Slurm: a batch script that starts one agent on each node of a job, has the run saved before the time limit, and puts the job
 * into the queue again until the run is done.
 */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { SluiceError, writeError, writeOutputFile } from '@sluice/core';
import { shellQuote } from '../../run/runDirectory.ts';
import { EXIT_STOPPED_EARLY } from '../exitCode.ts';
import { metricsWords } from '../metricsWords.ts';
import { callScheduler } from './scheduler.ts';

/** A run, with paths that mean the same on every node. */
export interface SlurmRun {
  readonly config: string;
  readonly runDir: string;
  readonly keyFile: string;
}

export interface SlurmPlan {
  /** Name of the job, after `sluice-`. */
  readonly name: string;
  /** Words that start Sluice on every node: `['/opt/node', '/shared/sluice/launcher/bin/sluice.js']`. */
  readonly program: readonly string[];
  /** One run, or those of an array job. */
  readonly runs: readonly SlurmRun[];
  /** Runs of an array that compute at the same time; all, when left out. */
  readonly runsAtOnce?: number;
  /** Nodes of each run. */
  readonly nodes: number;
  /** As Slurm writes it: `90` (minutes), `12:00:00`, `2-00:00:00`; that of the partition, when left out. */
  readonly timeLimit?: string;
  /** Seconds before the time limit at which the run is asked to save and stop; 300 when left out. */
  readonly graceSeconds?: number;
  /** How many times at most the job goes into the queue again; 100 when left out. */
  readonly requeues?: number;
  readonly partition?: string;
  readonly account?: string;
  readonly qos?: string;
  readonly constraint?: string;
  /** Nodes to keep away from, as Slurm lists them. */
  readonly exclude?: string;
  /** GPUs of each node: `8`, `a100:4`. */
  readonly gpusPerNode?: string;
  /** Cores of each node; whole nodes, with all their memory, when left out. */
  readonly cpusPerNode?: number;
  /** Memory of each node, as Slurm writes it: `64G`. */
  readonly memory?: string;
  /** Where each node serves metrics of its own. */
  readonly metrics?: { readonly port: number; readonly host?: string | undefined };
  /** Further options of sbatch, one each: `--mail-type=FAIL`. */
  readonly sbatch?: readonly string[];
}

export interface SlurmSubmission {
  readonly jobId: string;
  /** The script that was submitted. */
  readonly script: string;
  /** Where Slurm writes what the job says; %-patterns are Slurm's. */
  readonly output: string;
}

const DEFAULT_GRACE_SECONDS = 300;
const DEFAULT_REQUEUES = 100;
/** Slurm keeps the seconds of --signal in 16 bits. */
const MOST_GRACE_SECONDS = 65_535;

/**
 * The batch script of a plan.
 * @throws SLUICE_E_STARTER_INVALID for a value that Slurm could not be told
 */
export function slurmScript(plan: SlurmPlan): string {
  const { runs, requeues = DEFAULT_REQUEUES } = plan;
  if (runs.length === 0) throw invalid('no run was given');
  if (!Number.isInteger(plan.nodes) || plan.nodes < 1) throw invalid(`the number of nodes is ${plan.nodes}`);
  return `#!/bin/bash
${sbatchLines(plan).join('\n')}

# Starts one agent of Sluice on each node; the first node's starts the coordinator as well. The same script starts the run and goes
# on with it: submit it again whenever it has ended.
set -u

${runLines(runs).join('\n')}
restarts=\${SLURM_RESTART_COUNT:-0}

# Agents that are left over from an earlier start of this job have a smaller number, and are kept out by it.
export SLUICE_INCARNATION=$SLURM_JOB_ID.$restarts

newest_checkpoint() { ls -d "$run_dir"/checkpoints/*/manifest.json 2>/dev/null | sort | tail -n 1; }
checkpoint=$(newest_checkpoint)

# Slurm sends USR1 to this script alone, before the time limit; \`scancel\` sends TERM. srun passes USR1 on to the agents, which save
# and end with ${EXIT_STOPPED_EARLY}. (TERM it would answer by killing them.)
srun= interrupted= cancelled=
stop() { interrupted=yes; [ -n "$srun" ] && kill -USR1 "$srun"; }
trap stop USR1
trap 'cancelled=yes; stop' TERM

# The run survives the loss of an agent, so one that ends must not end the others: they end by the coordinator's word, or by
# themselves when it is silent.
srun ${srunFlags(plan).join(' ')} \\
  ${plan.program.map(shellQuote).join(' ')} \\
  agent --lead "$config" --run-dir "$run_dir" --key-file "$key_file"${metricsFlags(plan)} &
srun=$!

# A signal ends \`wait\` before srun has ended.
while interrupted=; wait "$srun"; code=$?; [ -n "$interrupted" ]; do :; done

# Only a run that was saved goes on; after an error, somebody has to look first. Where an agent was killed on the way, srun tells
# its code, above 128, in place of the others'; then a new checkpoint says that the run was saved.
saved=
[ "$code" = ${EXIT_STOPPED_EARLY} ] && saved=yes
[ "$code" -gt 128 ] && [ "$(newest_checkpoint)" != "$checkpoint" ] && saved=yes
if [ -n "$saved" ] && [ -z "$cancelled" ]; then
  if [ "$restarts" -lt ${checkedCount('the number of restarts', requeues, 0)} ]; then
    echo "sluice: stopped early and saved; restart $((restarts + 1)) of at most ${requeues} follows"
    trap - TERM # by which Slurm ends this script
    scontrol requeue "$job" && sleep 600
  else
    echo "sluice: stopped early and saved, but restarted $restarts times already; submit this script again to go on"
  fi
fi
exit "$code"
`;
}

/**
 * Writes the script into the run's directory and submits it.
 * @throws SLUICE_E_STARTER_MISSING (no sbatch here), SLUICE_E_STARTER_REFUSED, SLUICE_E_STARTER_INVALID, SLUICE_E_FILE_UNWRITABLE,
 *   SLUICE_E_DISK_FULL
 */
export async function submitToSlurm(plan: SlurmPlan): Promise<SlurmSubmission> {
  const text = slurmScript(plan);
  const script = join(logDirectory(plan), 'job.sh');
  try {
    await mkdir(logDirectory(plan), { recursive: true });
  } catch (error) {
    throw writeError(logDirectory(plan), error);
  }
  await writeOutputFile(script, [text]);
  const answer = await callScheduler({ program: 'sbatch', args: ['--parsable', script] });
  // A federation of clusters adds its name: 4711;cluster
  const jobId = /^(\d+)(;|$)/m.exec(answer.trim())?.[1];
  if (jobId === undefined) {
    throw new SluiceError(
      'SLUICE_E_STARTER_REFUSED',
      `sbatch gave no number of a job, but ${JSON.stringify(answer)}.`,
      {
        details: { output: answer },
      },
    );
  }
  return { jobId, script, output: outputPattern(plan) };
}

/** Script and output lie with the run; those of an array with its first. */
function logDirectory({ runs }: SlurmPlan): string {
  return join(runs[0]!.runDir, 'slurm');
}

function outputPattern(plan: SlurmPlan): string {
  // %x: the job's name; %A_%a: the array's number and the task's; %j: the job's number.
  return join(logDirectory(plan).replaceAll('%', '%%'), plan.runs.length > 1 ? '%x-%A_%a.out' : '%x-%j.out');
}

function sbatchLines(plan: SlurmPlan): string[] {
  const { graceSeconds = DEFAULT_GRACE_SECONDS } = plan;
  refuseLateSignal(plan.timeLimit, graceSeconds);
  const wholeNodes = plan.cpusPerNode === undefined;
  const options: [string, string | number | undefined][] = [
    ['job-name', `sluice-${plan.name}`],
    ['nodes', plan.nodes],
    ['ntasks-per-node', 1],
    ['cpus-per-task', plan.cpusPerNode && checkedCount('the number of cores', plan.cpusPerNode, 1)],
    // Whole nodes come without their memory unless it is asked for.
    ['mem', plan.memory ?? (wholeNodes ? '0' : undefined)],
    ['gpus-per-node', plan.gpusPerNode],
    ['partition', plan.partition],
    ['account', plan.account],
    ['qos', plan.qos],
    ['constraint', plan.constraint],
    ['exclude', plan.exclude],
    ['time', plan.timeLimit],
    ['signal', `B:USR1@${graceSeconds}`],
    ['open-mode', 'append'],
    ['output', outputPattern(plan)],
    ['array', arrayOption(plan)],
  ];
  const flags = [...(wholeNodes ? ['--exclusive'] : []), '--requeue'];
  const given = options
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `--${name}=${sbatchWord(name, String(value))}`);
  return [...given, ...flags, ...(plan.sbatch ?? []).map(furtherOption)].map((option) => `#SBATCH ${option}`);
}

function arrayOption({ runs, runsAtOnce }: SlurmPlan): string | undefined {
  if (runs.length === 1) return undefined;
  const limit =
    runsAtOnce === undefined ? '' : `%${checkedCount('the number of runs at once', runsAtOnce, 1)}`;
  return `0-${runs.length - 1}${limit}`;
}

/** sbatch reads its lines as a shell would, but for variables. */
function sbatchWord(name: string, value: string): string {
  if (value === '' || /[\p{Cc}"\\]/u.test(value)) throw invalid(`${name} is ${JSON.stringify(value)}`);
  return /^[\w@%+=:,./[\]&|*()-]+$/.test(value) ? value : `"${value}"`;
}

function furtherOption(option: string): string {
  if (/^--?[a-zA-Z][^\p{Cc}]*$/u.test(option)) return option;
  throw invalid(`${JSON.stringify(option)} is no option of sbatch`);
}

function metricsFlags({ metrics }: SlurmPlan): string {
  if (metrics === undefined) return '';
  const words = metricsWords(metrics.port, metrics.host);
  return words.map((word) => ` ${shellQuote(word)}`).join('');
}

function srunFlags({ cpusPerNode }: SlurmPlan): string[] {
  return [
    '--ntasks-per-node=1',
    // srun does not take it from the job.
    ...(cpusPerNode === undefined ? [] : [`--cpus-per-task=${cpusPerNode}`]),
    // An agent's workers share all cores of the node that the job has.
    '--cpu-bind=none',
    '--kill-on-bad-exit=0',
    '--wait=0',
  ];
}

function runLines(runs: readonly SlurmRun[]): string[] {
  const variables = { config: 'config', runDir: 'run_dir', keyFile: 'key_file' } as const;
  const keys = Object.keys(variables) as (keyof SlurmRun)[];
  const first = runs[0]!;
  if (runs.length === 1) {
    return [...keys.map((key) => `${variables[key]}=${shellQuote(first[key])}`), 'job=$SLURM_JOB_ID'];
  }
  return [
    ...keys.flatMap((key) => [
      `${variables[key]}s=(`,
      ...runs.map((run) => `  ${shellQuote(run[key])}`),
      ')',
    ]),
    ...keys.map((key) => `${variables[key]}=\${${variables[key]}s[$SLURM_ARRAY_TASK_ID]}`),
    // By its own number, the last task would stand for the whole array.
    `job=\${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID`,
  ];
}

function refuseLateSignal(timeLimit: string | undefined, graceSeconds: number): void {
  checkedCount('the grace', graceSeconds, 1);
  if (graceSeconds > MOST_GRACE_SECONDS) {
    throw invalid(`the grace is ${graceSeconds} s, and Slurm takes ${MOST_GRACE_SECONDS} s at most`);
  }
  if (timeLimit === undefined) return;
  const limit = secondsOf(timeLimit);
  if (limit === undefined) throw invalid(`the time limit is ${JSON.stringify(timeLimit)}`);
  if (limit <= graceSeconds) {
    throw invalid(
      `the time limit is ${timeLimit}, of which ${graceSeconds} s are for saving, so that no time is left`,
    );
  }
}

/** Forms of a time, by the sbatch manual: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S. */
function secondsOf(time: string): number | undefined {
  const { days, fields = '' } =
    /^(?:(?<days>\d{1,5})-)?(?<fields>\d{1,7}(?::\d{1,2}){0,2})$/.exec(time)?.groups ?? {};
  if (fields === '') return undefined;
  const numbers = fields.split(':').map(Number);
  const [hours = 0, minutes = 0, seconds = 0] =
    days !== undefined || numbers.length === 3 ? numbers : [0, ...numbers];
  return ((Number(days ?? 0) * 24 + hours) * 60 + minutes) * 60 + seconds;
}

function checkedCount(what: string, value: number, least: number): number {
  if (Number.isInteger(value) && value >= least) return value;
  throw invalid(`${what} is ${value}, not a whole number of at least ${least}`);
}

function invalid(what: string): SluiceError {
  return new SluiceError('SLUICE_E_STARTER_INVALID', `Slurm cannot be told to start the run: ${what}.`);
}
