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
});

export type DataConfig = z.infer<typeof DataConfig>;
