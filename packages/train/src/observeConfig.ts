/** To whom a run is told beside its own logs. Nothing of it changes what is computed. */

import { z } from 'zod';

export const ObserveConfig = z
  .strictObject({
    tensorboard: z
      .boolean()
      .default(false)
      .describe('Write event files for TensorBoard into the folder tensorboard of the run.'),
  })
  .describe('To whom the run is told beside its own logs; changes no bit of it.');

export type ObserveConfig = z.infer<typeof ObserveConfig>;
