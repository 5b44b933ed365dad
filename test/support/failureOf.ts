import { SluiceError } from '@sluice/core';

/** The coded error that rejects a promise. Another error is thrown on, and so is that there was none. */
export async function failureOf(run: Promise<unknown>): Promise<SluiceError> {
  const error = await run.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof SluiceError) return error;
  throw error ?? new Error('Nothing was thrown.');
}
