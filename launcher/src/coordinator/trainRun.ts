/** The coordinator's main loop: what happens in which order, and every decision that is not a worker's. */

import {
  type EvaluateResult,
  firstSampleOf,
  learningRateAt,
  rateFactorAt,
  type StepRequest,
  type StepResult,
} from '@sluice/train';
import { finiteOrName } from '../run/finiteOrName.ts';
import { agreedStep } from './agreedStep.ts';
import { BackgroundSaves } from './backgroundSaves.ts';
import { save, saveAtLast, saveIfPossible } from './saving.ts';
import { isLasting, leaveSpike, precautions, watchForSpikes } from './spikes.ts';
import type { CoordinatorState } from './state.ts';
import { stopNonFinite } from './stops.ts';
import type { StepReport, TrainingRun } from './trainingRun.ts';
import { agreed } from './workers.ts';

/** Steps in a row without an applied update after which going on is pointless. */
const MAX_NON_FINITE_STEPS = 10;

export type StopReason = 'finished' | 'lastStep' | 'signal' | 'regroup';

/**
 * Trains until the configured end, `lastStep`, a stop signal, or a wish to spread the workers anew; leaves a checkpoint of
 * the last step. While updates are left out, the weights do not change, and no checkpoint is due.
 * @throws SLUICE_E_NON_FINITE after too many steps in a row without a finite update, and when weights are to be saved that
 *   no training goes on from; SLUICE_E_SPIKE, SLUICE_E_WRONG_ARITHMETIC, SLUICE_E_SAVE_FAILED
 */
export async function trainRun(run: TrainingRun): Promise<StopReason> {
  const saves = new BackgroundSaves(run);
  try {
    await takeSteps(run, saves);
    // One that storage does not let come to its end is not waited for any longer: the state is saved once more.
    await saves.settle(1000 * run.config.checkpoint.slowSeconds);
    if (saves.savedStep !== run.state.step) await saveAtLast(run);
  } catch (error) {
    await saves.abandon(error);
    throw error;
  }
  const reason = stopReason(run);
  if (reason !== 'regroup') run.journal.note('stop', run.state.step, { reason });
  return reason;
}

async function takeSteps(run: TrainingRun, saves: BackgroundSaves): Promise<void> {
  const { config, state, lastStep } = run;
  if (saves.savedStep < 0 && config.initialize.from !== undefined) {
    // From here on, the run does without the weights that it began with.
    await save(run);
    saves.savedStep = state.step;
  }
  // Hosts that come and go while workers start do not keep them from getting on: each start comes to a step.
  const isEnough = (taken: number) => run.stop.requested || (taken > 0 && run.wantsRegroup());
  for (let taken = 0; state.step < lastStep && !isEnough(taken); taken++) {
    const step = await takeStep(run, state.step + 1);
    run.assertOwned();
    run.judgeArithmetic(step.result);
    const spike = watchForSpikes(run, step.result);
    journalNonFinite(run, step.result);
    const { nonFiniteInARow } = state;
    if (spike && isLasting(run, spike)) {
      run.observer.step({ ...step, spike, validation: undefined, nonFiniteInARow });
      // What comes of a save is in the journal before a decision that judges it.
      await saves.settle();
      saves.savedStep = (await leaveSpike(run, spike)).savedStep;
      continue;
    }
    const isEvaluated = isDue(config.evaluation.everySteps, state.step) || state.step === lastStep;
    const validation = run.validates && isEvaluated ? await evaluate(run) : undefined;
    const report = { ...step, spike, validation, nonFiniteInARow };
    run.observer.step(report);
    if (nonFiniteInARow >= MAX_NON_FINITE_STEPS) {
      await saves.settle();
      refuseToGoOnWithoutUpdates(run, step.result);
    }
    for (const act of run.afterStep) await act(run, report);
    const isSaveDue = isDue(config.checkpoint.everySteps, state.step) && state.nonFiniteInARow === 0;
    await saves.attend();
    if (isSaveDue && run.stage) await saves.request();
    else if (isSaveDue && (await saveIfPossible(run))) saves.savedStep = state.step;
  }
}

/** Whether something that is done every `everySteps` steps (0: never) is to be done after `step`. */
export function isDue(everySteps: number, step: number): boolean {
  return everySteps > 0 && step % everySteps === 0;
}

/** What the workers are asked to do in a step, as the decisions so far have it. */
export function stepRequest(
  run: Pick<TrainingRun, 'config' | 'spikes' | 'rateOf'> & {
    readonly state: Pick<CoordinatorState, 'rollbacks'>;
  },
  step: number,
): StepRequest {
  const { config, state, rateOf = () => 1 } = run;
  return {
    step,
    learningRate: learningRateAt(config, step) * rateFactorAt(state.rollbacks, step) * rateOf(step),
    firstSample: firstSampleOf(config, step, state.rollbacks),
    ...precautions(run),
  };
}

async function takeStep(
  run: TrainingRun,
  step: number,
): Promise<Pick<StepReport, 'result' | 'learningRate' | 'seconds' | 'ranks' | 'timelines'>> {
  const { workers, state, config } = run;
  const timeline = isDue(config.diagnostics.timelineEverySteps, step);
  const request = { ...stepRequest(run, step), ...(timeline && { timeline }) };
  const { learningRate } = request;
  const start = performance.now();
  const answers = await workers.call('step', request);
  const seconds = (performance.now() - start) / 1000;
  const result = agreedStep(step, answers);
  state.step = step;
  state.tokens += result.tokens;
  state.trainLoss = Number.isFinite(result.loss) ? result.loss : null;
  state.nonFiniteInARow = isSound(result) ? 0 : state.nonFiniteInARow + 1;
  const ranks = answers.map((answer) => answer.seconds);
  const timelines = timeline ? answers.map((answer) => answer.timeline!) : undefined;
  return { result: { ...result, ...measured(answers) }, learningRate, seconds, ranks, timelines };
}

function isSound({ loss, gradientNorm }: StepResult): boolean {
  return Number.isFinite(loss) && Number.isFinite(gradientNorm);
}

function journalNonFinite({ journal, state }: TrainingRun, result: StepResult): void {
  if (isSound(result)) return;
  journal.note('nonFinite', result.step, {
    // JSON has no infinities; their names tell more than its null.
    loss: String(result.loss),
    gradientNorm: String(result.gradientNorm),
    inARow: state.nonFiniteInARow,
  });
}

function refuseToGoOnWithoutUpdates(run: TrainingRun, { step, loss, gradientNorm }: StepResult): never {
  const { nonFiniteInARow: inARow } = run.state;
  const firstStep = step - inARow + 1;
  return stopNonFinite(
    run,
    `Steps ${firstStep} to ${step} gave no finite update (last: loss ${loss}, gradient norm ${gradientNorm}).`,
    { firstStep, inARow, loss: String(loss), gradientNorm: String(gradientNorm) },
  );
}

async function evaluate({ config, workers, state, journal, observer }: TrainingRun): Promise<EvaluateResult> {
  observer.activity('validating');
  const answers = await workers.call('evaluate', { sequences: config.evaluation.sequences });
  const result = agreed(`evaluation at step ${state.step}`, answers, ['loss', 'tokens']);
  const { loss, tokens, corpora } = result;
  const hasLoss = Number.isFinite(loss);
  state.validationLoss = hasLoss ? loss : null;
  if (hasLoss) state.bestValidationLoss = Math.min(loss, state.bestValidationLoss ?? loss);
  journal.note('evaluate', state.step, {
    loss: finiteOrName(loss),
    tokens,
    ...(corpora && { corpora }),
  });
  observer.activity(undefined);
  return result;
}

function stopReason({ config, state, lastStep, stop }: TrainingRun): StopReason {
  if (state.step >= config.training.steps) return 'finished';
  if (state.step >= lastStep) return 'lastStep';
  return stop.requested ? 'signal' : 'regroup';
}

/**
 * The workers' mean times, so that parts add up and nobody's waiting is hidden behind another's work, and the largest
 * memory.
 */
function measured(answers: readonly StepResult[]): Pick<StepResult, 'seconds' | 'peakMemoryBytes'> {
  const mean = (part: keyof StepResult['seconds']) =>
    answers.reduce((sum, { seconds }) => sum + seconds[part], 0) / answers.length;
  return {
    seconds: {
      total: mean('total'),
      compute: mean('compute'),
      waiting: mean('waiting'),
      communicate: mean('communicate'),
      optimize: mean('optimize'),
    },
    peakMemoryBytes: Math.max(...answers.map((answer) => answer.peakMemoryBytes)),
  };
}
