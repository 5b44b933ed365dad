/** Hugging Face's tokenizers library, which reads every tokenizer but plain byte-level ones. */

import { libraryVersion, loadTokenizerLibrary } from '@sluice/data';
import type { Finding } from './finding.ts';

export function examineTokenizers(): Finding {
  const name = 'tokenizers';
  try {
    loadTokenizerLibrary();
    const version = libraryVersion();
    return { name, found: `${version}, Hugging Face's library`, ok: true, values: { version } };
  } catch (error) {
    const reason = (error as Error).message;
    return {
      name,
      found: `${reason} Only byte-level BPE without a normalizer is read`,
      ok: false,
      mend: 'npm ci, on Linux, macOS or Windows with x64 or arm64; tokenizers trained here work without the library',
      values: { version: null, reason },
    };
  }
}
