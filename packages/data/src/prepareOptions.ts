/** What the preparation of a corpus is told, and what it tells while it goes on. */

export interface PrepareOptions {
  /** Where prepared corpora live, each in a folder of its recipe's name. */
  readonly outputRoot?: string;
  /** Where downloaded packages are kept. */
  readonly downloadRoot?: string;
  /** Whether to prepare again what is prepared already. */
  readonly force?: boolean | undefined;
  /** What is done where the text has changed since it was prepared: it is prepared anew, or its tokens are kept. */
  readonly changedText?: 'prepare' | 'keep';
  readonly signal?: AbortSignal | undefined;
  /** Called often; what it does should be cheap. */
  readonly onProgress?: (progress: PrepareProgress) => void;
}

export interface PrepareProgress {
  /** Downloading sources; comparing them with what was prepared; reading words for the tokenizer; finding its merges; encoding. */
  readonly stage: 'sources' | 'compare' | 'words' | 'merges' | 'encode';
  readonly documents: number;
  readonly bytes: number;
  readonly tokens: number;
  /**
   * Bytes of all text: exact once it was read through, before that guessed from the size of the files; 0 where it is not
   * known.
   */
  readonly totalBytes: number;
}
