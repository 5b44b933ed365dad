import { SluiceError } from '@sluice/core';

/** A tokenizer's file that is no use, with the reason in the cause's message. */
export function invalidTokenizer(file: string, cause: Error): SluiceError {
  return new SluiceError(
    'SLUICE_E_TOKENIZER_INVALID',
    `The tokenizer ${file} cannot be used: ${cause.message}.`,
    { details: { path: file }, cause },
  );
}
