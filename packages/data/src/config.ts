import { z } from 'zod';

/** Which prepared corpus a run reads, and how it is cut into sequences. */
export const DataConfig = z.strictObject({
  recipe: z
    .string()
    .min(1)
    .meta({ format: 'path' })
    .describe(
      'Data recipe (YAML): sources, tokenizer and splits. Relative paths start from the configuration file.',
    ),
  sequenceLength: z.int().min(2).describe('Tokens in one training sequence.'),
});

export type DataConfig = z.infer<typeof DataConfig>;
