/** To whom a run is told beside its own logs. Nothing of it changes what is computed. */

import { z } from 'zod';

export const ObserveConfig = z
  .strictObject({
    tensorboard: z
      .boolean()
      .default(false)
      .describe('Write event files for TensorBoard into the folder tensorboard of the run.'),
    metricsPort: z
      .int()
      .min(0)
      .max(65_535)
      .optional()
      .describe(
        'Port of the coordinator at which Prometheus finds its metrics; 0: a free one. None when left out.',
      ),
    metricsHost: z
      .string()
      .default('127.0.0.1')
      .describe('Address to serve them at; 0.0.0.0 for a Prometheus on another machine.'),
  })
  .describe('To whom the run is told beside its own logs; changes no bit of it.');

export type ObserveConfig = z.infer<typeof ObserveConfig>;
