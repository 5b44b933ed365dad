/** Hugging Face's tokenizers library in Rust, as it comes prebuilt for Node. */

import { createRequire } from 'node:module';
import { SluiceError } from '@sluice/core';
import type { Tokenizer as NativeTokenizer } from 'tokenizers';

export type { NativeTokenizer };

const require = createRequire(import.meta.url);

/**
 * The library, loaded when it is first asked for: most of what Sluice does needs no tokenizer.
 * @throws SluiceError SLUICE_E_TOKENIZER_LIBRARY where it has no build for this machine
 */
export function loadLibrary(): typeof import('tokenizers') {
  try {
    return require('tokenizers') as typeof import('tokenizers');
  } catch (error) {
    const reason = (error as Error).message.split('\n')[0];
    throw new SluiceError(
      'SLUICE_E_TOKENIZER_LIBRARY',
      `Hugging Face's tokenizers library does not load on ${process.platform} ${process.arch}: ${reason}`,
      { cause: error },
    );
  }
}

/** Version of the library. */
export function libraryVersion(): string {
  return (require('tokenizers/package.json') as { version: string }).version;
}
