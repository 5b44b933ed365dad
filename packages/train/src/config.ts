import { folderName, MOST_THREADS } from '@sluice/core';
import { DataConfig } from '@sluice/data';
import { BACKEND_NAMES, PRECISIONS } from '@sluice/engine';
import { ModelConfig } from '@sluice/model';
import { z } from 'zod';
import { HostsConfig } from './hostsConfig.ts';
import { inSteps, refuseTwoLengths } from './lengths.ts';
import { BatchConfig, ScheduleConfig, TrainingConfig } from './lengthsConfig.ts';
import { ObserveConfig } from './observeConfig.ts';
import { OptimizerConfig } from './optimizer/config.ts';
import { SynchronizeConfig } from './synchronize/config.ts';

export { OptimizerConfig } from './optimizer/config.ts';
export { SynchronizeConfig } from './synchronize/config.ts';

/** Lanes are counted out one by one, before anything else could say that they are too many. */
const MOST_LANES = 2 ** 20;

/** How the work is spread. None of these changes a bit of the result, but `lanes`, `gradients` and `synchronize`. */
export const ParallelConfig = z.strictObject({
  workers: z
    .int()
    .min(1)
    .max(MOST_LANES)
    .default(1)
    .describe('Worker processes; a power of two that divides `lanes`.'),
  expertParallel: z
    .int()
    .min(1)
    .default(1)
    .describe('Workers that share one set of experts; divides `workers` and the number of experts.'),
  threads: z
    .int()
    .min(0)
    .max(MOST_THREADS)
    .default(0)
    .describe(
      'Threads of each worker; 0 shares the cores out among the workers: those that the process may run on, or those of its container’s CPU quota.',
    ),
  lanes: z
    .int()
    .min(1)
    .max(MOST_LANES)
    .default(8)
    .describe('Parts of the global batch that are summed by a fixed binary tree; a power of two.'),
  gradients: z
    .enum(['float32', 'bfloat16'])
    .default('float32')
    .describe(
      'How partial sums of gradients travel between workers. bfloat16: half the bytes; wherever partial sums of lanes are added, both are rounded before, which is another result, the same for any number of workers.',
    ),
  gradientMiB: z
    .number()
    .min(0)
    .optional()
    .describe(
      'cuda: MiB of the GPU’s memory that partial sums of gradients may take; what a plan leaves of it when left out. Those of one lane are there in any case, and those beyond lie in the host’s memory, with the same bits.',
    ),
  synchronize: SynchronizeConfig.optional().describe(
    'For slow links: replicas of the model train apart and are brought together every so many steps (DiLoCo), which is another result. Left out: all workers train one model.',
  ),
});

/** What a new run begins with. It is of no consequence once there is a checkpoint. */
export const InitializeConfig = z
  .strictObject({
    from: z
      .string()
      .min(1)
      .meta({ format: 'path' })
      .optional()
      .describe(
        'Weights to begin with: a run (its newest checkpoint), a checkpoint or a Hugging Face directory; random ones when left out. Schedule and order of the data begin anew; a `model` that is left out is theirs. Relative paths start from the configuration file.',
      ),
    missing: z
      .enum(['refuse', 'initialize'])
      .default('refuse')
      .describe(
        'What is done about tensors of the model that those weights lack; initialize: they begin as in a new model.',
      ),
    optimizer: z
      .enum(['fresh', 'keep'])
      .default('fresh')
      .describe(
        'Whether the moments of a checkpoint to begin with are kept, with the number of steps that they are of; fresh: they are zero, as in a new run.',
      ),
  })
  .superRefine(({ from, missing, optimizer }, context) => {
    if (optimizer === 'fresh') return;
    const message =
      from === undefined
        ? 'there are no weights to begin with whose optimizer could be kept: name them by --from or initialize.from'
        : missing === 'initialize'
          ? 'tensors that begin as in a new model (initialize.missing) have no moments that could be kept'
          : undefined;
    if (message) context.addIssue({ code: 'custom', path: ['optimizer'], message });
  });

export const EvaluationConfig = z.strictObject({
  everySteps: z.int().min(0).default(100).describe('Steps between validations; 0 for only the last.'),
  sequences: z
    .int()
    .min(1)
    .default(32)
    .describe(
      'Validation sequences that are scored each time, each once; all of them where there are fewer.',
    ),
});

export const DiagnosticsConfig = z.strictObject({
  everySteps: z
    .int()
    .min(0)
    .default(100)
    .describe('Steps between measurements of sinks, activations, gates and experts; 0 for none.'),
  sequences: z
    .int()
    .min(1)
    .optional()
    .describe(
      'Validation sequences that are measured each time (training ones where the corpus holds nothing out); as many as the batch has, at most 8, when left out.',
    ),
  timelineEverySteps: z
    .int()
    .min(0)
    .default(0)
    .describe(
      'Steps between timelines: what each worker did in a step, moment by moment, as a file that Perfetto opens and a picture; 0 for none.',
    ),
});

export const CheckpointConfig = z.strictObject({
  everySteps: z.int().min(0).default(500).describe('Steps between checkpoints; 0 for only the last.'),
  keep: z.int().min(1).default(2).describe('Newest checkpoints that are kept.'),
  keepEverySteps: z
    .int()
    .min(1)
    .optional()
    .describe('Checkpoints of every so many steps are kept for good; none when left out.'),
  keepBest: z
    .boolean()
    .default(false)
    .describe(
      'Whether the checkpoint with the lowest validation loss is kept too, of those whose step was validated.',
    ),
  asynchronous: z
    .boolean()
    .default(true)
    .describe(
      'Whether training goes on while a checkpoint is written: its state is copied to memory first, which takes as much again as the moments and the weights that a worker owns. The last checkpoint of a run is always waited for.',
    ),
  onFailure: z
    .enum(['continue', 'stop'])
    .default('continue')
    .describe(
      'What follows when a checkpoint cannot be written. continue: training goes on, and the next one is tried when it is due; stop: the run ends with the error.',
    ),
  attempts: z
    .int()
    .min(1)
    .default(3)
    .describe(
      'How often a checkpoint is tried before it counts as failed; training goes on meanwhile. Those that training waits for are tried once, but the last one of a run until there is room.',
    ),
  retrySeconds: z.number().min(0).default(30).describe('Pause before it is tried again, seconds.'),
  slowSeconds: z
    .number()
    .positive()
    .default(600)
    .describe(
      'How long training waits, when a checkpoint is due, for one before it that is still being written, seconds; after that the new one counts as failed.',
    ),
});

/** What is done when a worker, or the host that it runs on, fails. None of it changes a bit of the result. */
export const FaultsConfig = z.strictObject({
  policy: z
    .enum(['restart', 'stop'])
    .default('restart')
    .describe('restart: the run goes on by itself from its newest checkpoint; stop: it ends with the error.'),
  maxRestarts: z
    .int()
    .min(0)
    .default(5)
    .describe('Restarts in a row without a new checkpoint between them, before the run ends with the error.'),
  bufferEverySteps: z
    .int()
    .min(0)
    .optional()
    .describe(
      'Steps between copies of weights and optimizer state to the memory of each worker’s host and of another, from which a restart goes on; 0 for none. When left out: none on one host; on several, as often as the copies take a twentieth of the time.',
    ),
  joinSeconds: z
    .number()
    .positive()
    .default(600)
    .describe('How long a start waits for hosts that are to come, seconds.'),
  replacementSeconds: z
    .number()
    .min(0)
    .default(30)
    .describe(
      'How long a restart waits for a host in place of a lost one before it goes on with those that are there, seconds.',
    ),
});

/** What a loss spike is, and what is done about it. */
export const SpikesConfig = z.strictObject({
  policy: z
    .enum(['off', 'report', 'skip', 'rollback', 'stop'])
    .default('report')
    .describe(
      'What is done about a spike. off: nothing, not even looking; report: it is told; skip: the update of an outlying step is left out; rollback: as skip, and where that does not end it, back to before it began, its data left out; stop: the run is saved before the update, and ends.',
    ),
  window: z
    .int()
    .min(8)
    .default(128)
    .describe('Steps of history that the robust statistics look at, and never fewer than `warmupSteps`.'),
  warmupSteps: z
    .int()
    .min(8)
    .default(32)
    .describe('Steps of history needed before anything is called a spike.'),
  threshold: z
    .number()
    .positive()
    .default(6)
    .describe('Robust deviations (scaled median absolute deviation of logarithms) above what is usual.'),
  minimumExcess: z
    .number()
    .min(0)
    .default(0.1)
    .describe('Least excess of an outlying loss over its median, nats.'),
  minimumRatio: z
    .number()
    .min(1)
    .default(1.5)
    .describe('Least ratio of an outlying gradient norm to its median.'),
  maxSkips: z
    .int()
    .min(0)
    .default(4)
    .describe(
      'skip, rollback: outlying steps in a row whose updates are left out before the run goes back (rollback) or stops (skip).',
    ),
  maxRollbacks: z
    .int()
    .min(1)
    .default(3)
    .describe(
      'rollback: times that the run goes back for spikes that follow each other, each time further, before it stops.',
    ),
  snapshotEverySteps: z
    .int()
    .min(0)
    .optional()
    .describe(
      'rollback: steps between the states that the run may go back to; the workers keep the newest two in memory, as large as a checkpoint each. 0: only the steps of checkpoints. 25 when left out.',
    ),
  rateFactor: z
    .number()
    .positive()
    .max(1)
    .default(1)
    .describe('rollback: factor of the learning rate after going back, once more for each time further.'),
  rateSteps: z
    .int()
    .min(1)
    .default(100)
    .describe('rollback: steps, from where the run went back to, at which that factor holds.'),
  recheck: z
    .boolean()
    .default(true)
    .describe(
      'Whether the first outlying step of a spike, and each whose numbers are not finite, is computed once more by other workers, to tell a machine that computes wrongly from data and dynamics.',
    ),
});

/** The whole configuration of a run as it is written. */
const WrittenConfig = z.strictObject({
  name: folderName()
    .optional()
    .describe('Name of the run, and of its folder in runs/; the configuration file’s name when left out.'),
  seed: z.int().default(1).describe('Seed of the initial weights and of the order of the data.'),
  backend: z
    .enum(BACKEND_NAMES)
    .default('native')
    .describe('TensorFlow.js backend; native falls back to cpu where the C++ core is not built.'),
  precision: z
    .enum(PRECISIONS)
    .optional()
    .describe(
      'Of activations, and of weights in products; master weights, gradients and moments are in single precision in any case. cuda has both, and bf16 where it is left out; f32 there is for comparisons, without tensor cores. All others have f32 alone.',
    ),
  model: ModelConfig,
  initialize: InitializeConfig.prefault({}),
  data: DataConfig,
  parallel: ParallelConfig.prefault({}),
  batch: BatchConfig,
  training: TrainingConfig,
  optimizer: OptimizerConfig,
  schedule: ScheduleConfig.prefault({}),
  evaluation: EvaluationConfig.prefault({}),
  diagnostics: DiagnosticsConfig.prefault({}),
  checkpoint: CheckpointConfig.prefault({}),
  spikes: SpikesConfig.prefault({}),
  faults: FaultsConfig.prefault({}),
  hosts: HostsConfig.prefault({}),
  observe: ObserveConfig.optional(),
});

/** The whole configuration of a run. Resolved once, read-only after, saved with the run; all its lengths are in steps. */
export const RunConfig = WrittenConfig.superRefine(refuseTwoLengths).transform(inSteps);

export type RunConfig = z.infer<typeof RunConfig>;
