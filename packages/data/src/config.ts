import { z } from 'zod';
import { LEAST_SHARE } from './mixture.ts';

const recipePath = () => z.string().min(1).meta({ format: 'path' });

const weights = () =>
  z
    .array(z.number().min(0))
    .refine((all) => all.some((weight) => weight > 0), { error: 'at least one weight must be more than 0' })
    .refine((all) => all.every((weight) => weight === 0 || weight >= LEAST_SHARE * sum(all)), {
      error: `a weight that is not 0 must be at least ${LEAST_SHARE} of all`,
    });

const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);

/** Several corpora in place of one. */
export const MixtureConfig = z
  .strictObject({
    recipes: z
      .array(recipePath())
      .min(1)
      .describe(
        'Data recipes (YAML) of the corpora, which must have one tokenizer. Relative paths start from the configuration file.',
      ),
    weights: weights().describe('For each recipe, how much of the training tokens it gives, in any unit.'),
    schedule: z
      .array(
        z.strictObject({
          fromTokens: z
            .number()
            .min(1)
            .describe('Training tokens of the run after which these weights hold.'),
          weights: weights().describe('For each recipe, as above.'),
        }),
      )
      .default([])
      .describe('Other weights later in the run, in order; none when left out.'),
  })
  .superRefine(({ recipes, weights, schedule }, context) => {
    const lists = [
      { path: ['weights'], list: weights },
      ...schedule.map(({ weights }, i) => ({ path: ['schedule', i, 'weights'], list: weights })),
    ];
    for (const { path, list } of lists) {
      if (list.length === recipes.length) continue;
      const message = `${list.length} weights for ${recipes.length} recipes`;
      context.addIssue({ code: 'custom', path, message });
    }
    for (const [i, { fromTokens }] of schedule.entries()) {
      const before = schedule[i - 1]?.fromTokens ?? 0;
      if (fromTokens > before) continue;
      const message = `${fromTokens} is not after the ${before} of the weights before`;
      context.addIssue({ code: 'custom', path: ['schedule', i, 'fromTokens'], message });
    }
  });

/** Which prepared corpora a run reads, and how they are cut into sequences. */
export const DataConfig = z
  .strictObject({
    recipe: recipePath()
      .optional()
      .describe(
        'Data recipe (YAML): sources, tokenizer and splits. Relative paths start from the configuration file. Give this or `mixture`.',
      ),
    mixture: MixtureConfig.optional().describe('Several recipes with weights, in place of one.'),
    sequenceLength: z.int().min(2).describe('Tokens in one training sequence.'),
    documents: z
      .enum(['packed', 'separate'])
      .default('packed')
      .describe(
        'packed: tokens see all that stands before them in the sequence; separate: those of their own document only, and positions are counted from its first token.',
      ),
    beginning: z
      .string()
      .min(1)
      .optional()
      .describe(
        'Beginning-of-text token, as the tokenizer writes it: put before each sequence, or with `documents: separate` before each document; none when left out.',
      ),
  })
  .superRefine(({ recipe, mixture }, context) => {
    if ((recipe === undefined) !== (mixture === undefined)) return;
    context.addIssue({
      code: 'custom',
      path: ['recipe'],
      message:
        recipe === undefined
          ? 'give either recipe or mixture'
          : 'give either recipe or mixture, and not both; to drop the former: --set data.recipe=null',
    });
  });

export type DataConfig = z.infer<typeof DataConfig>;
