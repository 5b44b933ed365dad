/** Conditions that tie several keys of a configuration together, or to the machine. All are checked before any process starts. */

import { SluiceError } from '@sluice/core';
import { BACKENDS, precisionOn } from '@sluice/engine';
import { interleavedGate, modelParameters, validateCudaSizes } from '@sluice/model';
import { mostOverlap, type RunConfig, rampSizes, type SynchronizeConfig, stageCount } from '@sluice/train';

/**
 * What is wrong wherever it runs.
 * @throws SLUICE_E_WORKERS_INVALID, SLUICE_E_BATCH_INDIVISIBLE, SLUICE_E_BATCH_RAMP_INVALID, SLUICE_E_EXPERT_PARALLEL_INVALID,
 *   SLUICE_E_SCHEDULE_INVALID, SLUICE_E_OPTIMIZER_INVALID, SLUICE_E_SYNCHRONIZE_INVALID; each message shows the numbers that do not fit;
 *   SLUICE_E_BACKEND_UNSUPPORTED, SLUICE_E_CUDA_KERNEL
 */
export function validateConfig(config: RunConfig): void {
  validateBackend(config);
  validateWorkers(config.parallel);
  validateBatch(config.batch, config.parallel.lanes);
  validateExpertParallel(config);
  validateSchedule(config);
  validateOptimizer(config);
  validateSynchronize(config);
  validateCudaSizes(config);
}

/** @throws SLUICE_E_VOCABULARY_TOO_SMALL */
export function validateVocabulary(modelVocabulary: number, tokenizerVocabulary: number): void {
  if (modelVocabulary >= tokenizerVocabulary) return;
  throw new SluiceError(
    'SLUICE_E_VOCABULARY_TOO_SMALL',
    `model.vocabularySize is ${modelVocabulary}, but the tokenizer has ${tokenizerVocabulary} tokens.`,
    { details: { modelVocabulary, tokenizerVocabulary } },
  );
}

/**
 * Workers that share one set of experts, lowered to fit when only the number of workers was asked for: no bit of the
 * result depends on it.
 */
export function fittingExpertParallel(expertParallel: number, workers: number): number {
  return workers % expertParallel === 0 ? expertParallel : Math.min(expertParallel, workers);
}

function validateBackend({
  backend: name,
  precision,
  parallel: { expertParallel },
  observe,
}: RunConfig): void {
  const backend = BACKENDS[name];
  precisionOn(backend, precision);
  const everySteps = observe?.samples?.everySteps ?? 0;
  if (!backend.readsSynchronously && everySteps > 0) {
    throw new SluiceError(
      'SLUICE_E_BACKEND_UNSUPPORTED',
      `observe.samples.everySteps is ${everySteps}, but no texts can be written on the backend "${name}": each token must be known before the next pass, and its values can only be awaited. Set it to 0.`,
      { details: { backend: name, everySteps } },
    );
  }
  if (!backend.readsSynchronously && expertParallel > 1) {
    throw new SluiceError(
      'SLUICE_E_BACKEND_UNSUPPORTED',
      `parallel.expertParallel is ${expertParallel}, but workers cannot share experts on the backend "${name}": which ` +
        'tokens go to whom must be known in the middle of a pass, and its values can only be awaited. Set it to 1.',
      { details: { backend: name, expertParallel } },
    );
  }
}

/** For what this machine is to compute. @throws SLUICE_E_BACKEND_MISSING */
export function refuseAbsentBackend({ backend: name }: Pick<RunConfig, 'backend'>): void {
  // Without the C++ core, native stands for cpu.
  const absence = name === 'native' ? undefined : BACKENDS[name].absence();
  if (absence !== undefined) {
    throw new SluiceError('SLUICE_E_BACKEND_MISSING', `The backend "${name}" cannot run: ${absence}.`, {
      details: { backend: name, reason: absence },
    });
  }
}

function validateWorkers({ workers, lanes }: RunConfig['parallel']): void {
  if (!isPowerOfTwo(lanes)) {
    throw new SluiceError('SLUICE_E_WORKERS_INVALID', `parallel.lanes is ${lanes}, not a power of two.`, {
      details: { lanes },
    });
  }
  if (!isPowerOfTwo(workers)) {
    throw new SluiceError('SLUICE_E_WORKERS_INVALID', `parallel.workers is ${workers}, not a power of two.`, {
      details: { workers },
    });
  }
  if (lanes % workers !== 0) {
    throw new SluiceError(
      'SLUICE_E_WORKERS_INVALID',
      `parallel.workers is ${workers}, which does not divide the ${lanes} lanes (parallel.lanes).`,
      { details: { workers, lanes } },
    );
  }
}

function validateBatch(batch: RunConfig['batch'], lanes: number): void {
  const { sequences, grainSequences, ramp } = batch;
  const details = { ...batch, lanes };
  if (sequences % grainSequences !== 0) {
    throw new SluiceError(
      'SLUICE_E_BATCH_INDIVISIBLE',
      `batch.sequences is ${sequences}, not a multiple of batch.grainSequences ${grainSequences}.`,
      { details },
    );
  }
  const grains = sequences / grainSequences;
  if (grains % lanes !== 0) {
    throw new SluiceError(
      'SLUICE_E_BATCH_INDIVISIBLE',
      `The batch has ${grains} grains (${sequences} sequences of batch.sequences ÷ ${grainSequences} a grain), ` +
        `which do not divide into ${lanes} lanes (parallel.lanes).`,
      { details },
    );
  }
  const fault = ramp && rampFault(batch, grainSequences * lanes);
  if (fault) throw new SluiceError('SLUICE_E_BATCH_RAMP_INVALID', `${fault}.`, { details });
}

/** @param multiple sequences that fill each lane with a grain */
function rampFault(batch: RunConfig['batch'], multiple: number): string | undefined {
  const { sequences, ramp } = batch;
  const { from, increment, steps } = ramp!;
  if (from >= sequences) {
    return `batch.ramp.from is ${from}, not less than the ${sequences} sequences of the whole batch (batch.sequences)`;
  }
  const sizes = rampSizes(batch);
  const odd = sizes.find((size) => size % multiple !== 0);
  if (odd !== undefined) {
    return `batch.ramp goes through ${odd} sequences, which do not divide into grains of ${batch.grainSequences} and ${multiple / batch.grainSequences} lanes (parallel.lanes)`;
  }
  const grow = increment === undefined ? 'doubled' : `in increments of ${increment} (batch.ramp.increment)`;
  const last = sizes.at(-1)!;
  if ((increment === undefined ? 2 * last : last + increment) !== sequences) {
    return `batch.ramp.from is ${from}, which ${grow} does not come to ${sequences} (batch.sequences)`;
  }
  if (steps !== undefined && steps < sizes.length) {
    return `batch.ramp.steps is ${steps}, but the batch has ${sizes.length} sizes before it is whole`;
  }
  return undefined;
}

function validateExpertParallel(config: RunConfig): void {
  const { workers, expertParallel } = config.parallel;
  const experts = config.model.experts?.count;
  const details = { workers, expertParallel, experts };
  if (experts === undefined && expertParallel > 1) {
    throw new SluiceError(
      'SLUICE_E_EXPERT_PARALLEL_INVALID',
      `parallel.expertParallel is ${expertParallel}, but the model has no experts.`,
      { details },
    );
  }
  if (workers % expertParallel !== 0) {
    throw new SluiceError(
      'SLUICE_E_EXPERT_PARALLEL_INVALID',
      `parallel.expertParallel is ${expertParallel}, which does not divide parallel.workers ${workers}.`,
      { details },
    );
  }
  if (experts !== undefined && experts % expertParallel !== 0) {
    throw new SluiceError(
      'SLUICE_E_EXPERT_PARALLEL_INVALID',
      `parallel.expertParallel is ${expertParallel}, which does not divide the ${experts} experts (model.experts.count).`,
      { details },
    );
  }
}

/** A schedule that the run cuts off would jump where it is to slope, or never reach its peak. */
function validateSchedule({ schedule, training: { steps } }: Pick<RunConfig, 'schedule' | 'training'>): void {
  const { kind, warmupSteps, decaySteps, decayShape } = schedule;
  const refuse = (message: string) => {
    throw new SluiceError('SLUICE_E_SCHEDULE_INVALID', message, { details: { ...schedule, steps } });
  };
  if (warmupSteps > steps) {
    refuse(`schedule.warmupSteps is ${warmupSteps}, but the run has ${steps} steps (training.steps).`);
  }
  if (decayShape !== undefined && kind !== 'wsd') {
    refuse(
      `schedule.decayShape is ${decayShape}, but schedule.kind is ${kind}: only wsd has a decay of its own. To drop it: --set schedule.decayShape=null`,
    );
  }
  if (decaySteps === undefined) return;
  if (kind !== 'wsd') {
    refuse(
      `schedule.decaySteps is ${decaySteps}, but schedule.kind is ${kind}: only wsd has a decay of its own. To drop it: --set schedule.decaySteps=null`,
    );
  }
  if (warmupSteps + decaySteps > steps) {
    refuse(
      `schedule.decaySteps is ${decaySteps} and schedule.warmupSteps ${warmupSteps}, together more than the ` +
        `${steps} steps of the run (training.steps).`,
    );
  }
}

function validateOptimizer(config: Pick<RunConfig, 'model' | 'optimizer'>): void {
  validateGroups(config);
  if (config.optimizer.qkClip) validateQkClip(config);
}

/** QK-clip counts on logits that are proportional to the weights. */
function validateQkClip({ model: { qkNorm, gates } }: Pick<RunConfig, 'model'>): void {
  const adds = gates.find(
    ({ position, form }) => form === 'additive' && (position === 'query' || position === 'key'),
  );
  const reason = qkNorm
    ? 'model.qkNorm is on: then the weights do not scale the logits, which the gains of those norms bound (optimizer.groups.norms.weightDecay holds them down). Set model.qkNorm to false, or leave optimizer.qkClip out.'
    : adds
      ? `the model has a gate that adds to the ${adds.position}: then the logits do not scale with the weights. Leave one of them out.`
      : undefined;
  if (reason === undefined) return;
  throw new SluiceError('SLUICE_E_OPTIMIZER_INVALID', `optimizer.qkClip is given, but ${reason}`, {
    details: { qkNorm, gate: adds },
  });
}

/** Settings of parameters that the model does not have would be taken for having an effect. */
function validateGroups({ model, optimizer }: Pick<RunConfig, 'model' | 'optimizer'>): void {
  const there = [...new Set(modelParameters(model).map(({ group }) => group))];
  const hasGate = there.includes('gate') || interleavedGate(model) !== 'none';
  if (optimizer.gateWeightDecay !== undefined && !hasGate) {
    throw new SluiceError(
      'SLUICE_E_OPTIMIZER_INVALID',
      `optimizer.gateWeightDecay is ${optimizer.gateWeightDecay}, but the model has no gates.`,
      { details: { gateWeightDecay: optimizer.gateWeightDecay } },
    );
  }
  const absent = Object.keys(optimizer.groups ?? {}).find((group) => !there.some((one) => one === group));
  if (absent === undefined) return;
  const where =
    absent === 'gate' && interleavedGate(model) !== 'none'
      ? ' Its gate lies in one matrix with the queries, and is of attention; optimizer.gateWeightDecay gives it a decay of its own.'
      : absent === 'head' && model.tieWordEmbeddings
        ? ' Its head is the embedding (model.tieWordEmbeddings).'
        : '';
  throw new SluiceError(
    'SLUICE_E_OPTIMIZER_INVALID',
    `optimizer.groups.${absent} is given, but the model has no parameters of that group.${where} It has: ${there.join(', ')}.`,
    { details: { group: absent, groups: there } },
  );
}

/** Replicas that train apart know nothing of each other between two synchronizations. */
function validateSynchronize(config: RunConfig): void {
  const { synchronize, lanes } = config.parallel;
  const fault = synchronize && synchronizeFault(config, synchronize);
  if (fault === undefined) return;
  throw new SluiceError('SLUICE_E_SYNCHRONIZE_INVALID', fault, {
    details: { ...synchronize, lanes, policy: config.spikes.policy },
  });
}

function synchronizeFault(
  { model, parallel: { lanes }, spikes, initialize }: RunConfig,
  { replicas, parts, everySteps, overlapSteps, mixing }: SynchronizeConfig,
): string | undefined {
  if (!isPowerOfTwo(replicas)) return `parallel.synchronize.replicas is ${replicas}, not a power of two.`;
  if (lanes % replicas !== 0)
    return `parallel.synchronize.replicas is ${replicas}, which does not divide the ${lanes} lanes (parallel.lanes).`;
  const mostParts = Math.min(everySteps, stageCount(model));
  if (parts > mostParts)
    return `parallel.synchronize.parts is ${parts}, more than the ${mostParts} that ${mostParts === everySteps ? `${everySteps} steps between synchronizations have room for` : 'the model is made of (its layers, head and embedding)'}.`;
  const most = mostOverlap({ everySteps, parts });
  if (overlapSteps > most)
    return `parallel.synchronize.overlapSteps is ${overlapSteps}, but an exchange has to be over before the next one begins, ${most + 1} ${most === 0 ? 'step' : 'steps'} later (everySteps ${everySteps}, parts ${parts}). Set it to ${most === 0 ? '0' : `${most} at most`}, or everySteps to ${parts * (overlapSteps + 1)} or more.`;
  if (mixing !== undefined && overlapSteps === 0)
    return `parallel.synchronize.mixing is ${mixing}, but no exchange overlaps steps, after which replicas would have weights of their own to keep. Leave it out, or set overlapSteps.`;
  if (spikes.policy !== 'off' && spikes.policy !== 'report')
    return `spikes.policy is ${spikes.policy}, but replicas that train apart (parallel.synchronize) leave nothing out together and do not go back. Set it to report or off.`;
  if (initialize.optimizer === 'keep')
    return 'initialize.optimizer is keep, but replicas that train apart (parallel.synchronize) begin with moments of zero.';
  return undefined;
}

function isPowerOfTwo(value: number): boolean {
  return value >= 1 && (value & (value - 1)) === 0;
}
