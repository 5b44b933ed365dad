/**
 * What is done about spikes: outlying steps that leave the weights alone, and the way back where that does not end it. Every
 * decision follows from values that all workers agree on, and is in the journal before it is acted on; a run that is resumed
 * from before a decision comes to the same one.
 */

import { elementary, SluiceError } from '@sluice/core';
import {
  type Diagnostics,
  decideRollback,
  firstSampleOf,
  type Rollback,
  relativeUpdate,
  type SpikeDetector,
  type SpikeEvent,
  type StepRequest,
  type StepResult,
  withRollback,
} from '@sluice/train';
import { describeFirstMove, signalText } from '../run/episodeText.ts';
import { saveAtLast } from './saving.ts';
import type { Restored, TrainingRun } from './trainingRun.ts';

/** What a step is told of spikes before it is taken. */
export function precautions({
  config,
  spikes,
}: Pick<TrainingRun, 'config' | 'spikes'>): Pick<StepRequest, 'limits' | 'skipOutlying' | 'recheck'> {
  const { policy, recheck } = config.spikes;
  if (policy === 'off') return {};
  return {
    limits: spikes.limits(),
    skipOutlying: policy !== 'report',
    // Once a spike is known to come from data or dynamics, its later steps are not computed twice.
    recheck: recheck && spikes.inARow === 0 ? 'outlying' : 'never',
  };
}

/** Tells the detector of a step, and the journal of what it finds. */
export function watchForSpikes(
  { journal, spikes, state, rateOf = () => 1 }: TrainingRun,
  { step, loss, gradientNorm, groupNorms, lastUpdate, applied }: StepResult,
): SpikeEvent | undefined {
  // A rate that is wrong on purpose is to be seen: updates are judged by the one that was meant.
  const meant = lastUpdate && lastUpdate.learningRate / rateOf(step - 1);
  const event = spikes.observe({
    ...{ step, loss, gradientNorm, groupNorms },
    lastUpdate: lastUpdate && relativeUpdate(lastUpdate, meant!),
  });
  state.spikes = spikes.state();
  if (event) journal.note('spike', step, { event, ...(!applied && { skipped: true }) });
  return event;
}

/** Whether leaving updates out is no longer an answer to a spike. */
export function isLasting({ config, spikes }: TrainingRun, event: SpikeEvent | undefined): boolean {
  if (!event) return false;
  switch (config.spikes.policy) {
    case 'stop':
      return event.signal === 'loss';
    case 'skip':
    case 'rollback':
      return spikes.inARow > config.spikes.maxSkips;
    default:
      return false;
  }
}

/**
 * Takes the run back to before a lasting spike.
 * @returns where it goes on
 * @throws SLUICE_E_SPIKE where it has gone back as often as it may, or is not to go back at all
 */
export async function leaveSpike(run: TrainingRun, event: SpikeEvent): Promise<Restored> {
  const { config, journal, observer, spikes, state } = run;
  const { step } = event;
  const root = event.first?.step ?? step;
  const samples = (at: number) => firstSampleOf(config, at, state.rollbacks);
  const isToGoBack = config.spikes.policy === 'rollback';
  const decision = isToGoBack ? decideRollback(config, { step, root }, state.rollbacks, samples) : undefined;
  if (!decision) return stopForSpike(run, event);
  const leftOut = [samples(decision.to + 1), decision.nextSample] as const;
  await run.whenWritable(() => journal.append('rollback', step, { decision, leftOut }));
  observer.activity('going back');
  const restored = await run.goBack(decision);
  const rollbacks = withRollback(state.rollbacks, decision);
  Object.assign(state, structuredClone(restored.state), { rollbacks });
  spikes.restore(state.spikes);
  observer.activity(undefined);
  observer.wentBack(decision, state.step);
  return restored;
}

/** What the run has been through, in words: the event, and what moved first. */
export function spikeText({ step, signal, value, median, first }: SpikeEvent): string {
  const shown = (x: number) => (Number.isFinite(x) ? x.toPrecision(4) : String(x));
  const isItself = first === undefined || (first.step === step && first.signal === signal);
  const began = isItself ? '' : `; it began with ${describeFirstMove(first, step)}`;
  return `${signalText(signal)} ${shown(value)} over a median of ${shown(median)}${began}`;
}

/** Tells the detector what was measured after a step. */
export function watchMeasurements(
  {
    config,
    spikes,
    state,
  }: Pick<TrainingRun, 'config' | 'state'> & {
    readonly spikes: Pick<SpikeDetector, 'observeMeasured' | 'state'>;
  },
  { step, largestAttentionLogit, largestActivation, router }: Measured,
): void {
  const { experts } = config.model;
  spikes.observeMeasured(step, {
    attentionLogit: largestAttentionLogit ?? undefined,
    activation: largestActivation,
    routerPreference: router && experts && elementary.log(experts.count) - router.entropy,
    deadExperts: router && router.deadExperts + 1,
  });
  state.spikes = spikes.state();
}

type Measured = { readonly step: number } & Pick<
  Diagnostics,
  'largestAttentionLogit' | 'largestActivation' | 'router'
>;

/** From a decision, for people. */
export function rollbackText({ step, root, to, level, rateFactor, rateUntil }: Rollback): string {
  const again = level > 1 ? `, the ${ordinal(level)} time in a row` : '';
  const rate =
    rateUntil > to ? `; the learning rate is ${rateFactor} of the scheduled one until step ${rateUntil}` : '';
  return `going back from step ${step} to step ${to}${again}, since a spike began at step ${root}; the samples between are left out${rate}`;
}

function ordinal(n: number): string {
  return ['first', 'second', 'third'][n - 1] ?? `${n}th`;
}

/**
 * Ends the run. Under `stop` it is saved first: its weights are those of before the spike, as the update was left out. In all
 * other cases the run goes on, if at all, from before the spike.
 */
async function stopForSpike(run: TrainingRun, event: SpikeEvent): Promise<never> {
  const { config, journal, state, spikes } = run;
  const { policy, maxSkips, maxRollbacks } = config.spikes;
  const { step } = event;
  const root = event.first?.step ?? step;
  const why = {
    stop: 'spikes.policy is stop',
    skip: `${spikes.inARow} outlying steps came in a row, and spikes.maxSkips is ${maxSkips}`,
    rollback: `the run has gone back ${state.rollbacks.at(-1)?.level ?? 0} times for spikes that followed each other, and spikes.maxRollbacks is ${maxRollbacks}`,
  }[policy as 'stop' | 'skip' | 'rollback'];
  const message = `Step ${step} is a spike: ${spikeText(event)}. The run stops: ${why}.`;
  const isSaved = policy === 'stop';
  if (isSaved) await saveAtLast(run);
  journal.note('stop', step, { reason: 'spike', message, ...(!isSaved && { firstStep: root }) });
  const { text, command } = run.recovery(isSaved ? 'same' : 'half');
  throw new SluiceError('SLUICE_E_SPIKE', `${message} ${text}`, {
    details: { step, root, signal: event.signal, value: String(event.value), resume: command },
  });
}
