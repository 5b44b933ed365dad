/** Numbers of a configuration that are computed with in single precision. */

import { z } from 'zod';

/** A number above 0 that is neither 0 nor infinite in single precision: between 1.5e-45 and 3.4e38. */
export function positiveFloat32() {
  return z
    .number()
    .positive({ abort: true })
    .refine((value) => Math.fround(value) > 0 && Number.isFinite(Math.fround(value)), {
      error: ({ input }) =>
        `must be a positive number of single precision, which ${input} is not: that reaches from 1.5e-45 to 3.4e38`,
    });
}
