/** Lengths of a run that may be given by their tokens, as the steps that the rest of the program counts by. */

import type { z } from 'zod';
import { type BatchSettings, samplesBefore, stepsOfTokens } from './batchSizes.ts';
import type { BatchConfig, ScheduleConfig, TrainingConfig } from './lengthsConfig.ts';

interface WrittenLengths extends BatchSettings {
  readonly batch: z.infer<typeof BatchConfig>;
  readonly training: z.infer<typeof TrainingConfig>;
  readonly schedule: z.infer<typeof ScheduleConfig>;
}

/** A length as it is written: the keys of its two forms, and their values. */
interface Length {
  readonly section: readonly string[];
  readonly steps: string;
  readonly tokens: string;
  readonly given: readonly [number | undefined, number | undefined];
  readonly required?: boolean;
}

/** Complains of each length that is given both in steps and in tokens, or in neither where there must be one. */
export function refuseTwoLengths(
  { training, schedule, batch: { ramp } }: WrittenLengths,
  context: z.core.$RefinementCtx,
): void {
  const own = { steps: 'steps', tokens: 'tokens', required: true };
  const lengths: Length[] = [
    { section: ['training'], ...own, given: [training.steps, training.tokens] },
    ...(ramp ? [{ section: ['batch', 'ramp'], ...own, given: [ramp.steps, ramp.tokens] } as const] : []),
    {
      section: ['schedule'],
      steps: 'warmupSteps',
      tokens: 'warmupTokens',
      // 0 is what is meant when it is left out.
      given: [schedule.warmupSteps || undefined, schedule.warmupTokens],
    },
    {
      section: ['schedule'],
      steps: 'decaySteps',
      tokens: 'decayTokens',
      given: [schedule.decaySteps, schedule.decayTokens],
    },
  ];
  for (const { section, given, required = false, ...keys } of lengths) {
    const [steps, tokens] = given;
    const complain = (key: string, message: string) =>
      context.addIssue({ code: 'custom', path: [...section, key], message });
    if (steps !== undefined && tokens !== undefined) {
      const drop = `--set ${[...section, keys.steps].join('.')}=null`;
      complain(
        keys.tokens,
        `give either ${keys.steps} (${steps}) or ${keys.tokens}, and not both; to drop the former: ${drop}`,
      );
    } else if (required && steps === undefined && tokens === undefined) {
      complain(keys.steps, `give either ${keys.steps} or ${keys.tokens}`);
    }
  }
}

type InSteps<Config> = Omit<Config, 'training' | 'schedule'> & {
  training: { steps: number };
  schedule: Omit<z.infer<typeof ScheduleConfig>, 'warmupTokens' | 'decayTokens'>;
};

/** The same run with all its lengths in steps: of each length in tokens, the fewest steps that have so many. */
export function inSteps<Config extends WrittenLengths>(config: Config): InSteps<Config> {
  const { warmupTokens, decayTokens, ...schedule } = config.schedule;
  const steps = config.training.steps ?? stepsOfTokens(config, config.training.tokens!);
  if (warmupTokens !== undefined) schedule.warmupSteps = stepsOfTokens(config, warmupTokens);
  if (decayTokens !== undefined) schedule.decaySteps = lastStepsOfTokens(config, steps, decayTokens);
  return { ...config, training: { steps }, schedule };
}

/** The fewest last steps of a run that have at least so many tokens; more than it has where all have fewer. */
function lastStepsOfTokens(config: BatchSettings, steps: number, tokens: number): number {
  const before = samplesBefore(config, steps + 1) * config.data.sequenceLength - tokens;
  return steps + 1 - stepsOfTokens(config, before + 1);
}
