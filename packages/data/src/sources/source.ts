/** What every kind of source gives: documents in a fixed order, and the files whose change makes them stale. */

/** A document, or a part of one that is too long to be held whole. */
export interface DocumentPart {
  /** Where the document comes from, within its source: a path, with a line or row where that helps. */
  readonly name: string;
  readonly text: string;
  /** Whether the document ends here; else the next part goes on with it. */
  readonly last: boolean;
}

export interface SourceFile {
  readonly path: string;
  /** The path relative to the source, with forward slashes. */
  readonly name: string;
  readonly size: number;
  readonly modified: number;
}

/** A file or folder that is there and is not read. */
export interface PassedOver {
  /** As that of a file; a folder's ends with a slash. */
  readonly name: string;
  readonly reason: string;
}

/** What was left out or changed while a source was read. */
export interface IntakeCounts {
  /** Records whose text is null. */
  nullRecords: number;
  /** Records without the field. */
  missingRecords: number;
  /** Documents of nothing but white space. */
  blankDocuments: number;
  /** Sequences of bytes (or halves of surrogate pairs) that are no text, and were replaced or dropped. */
  invalidSequences: number;
}

export function noCounts(): IntakeCounts {
  return { nullRecords: 0, missingRecords: 0, blankDocuments: 0, invalidSequences: 0 };
}

export interface TextSourceReader {
  /** What to call the source in a sample's provenance. */
  readonly label: string;
  readonly files: readonly SourceFile[];
  readonly passedOver: readonly PassedOver[];
  /**
   * All documents, the same ones in the same order each time. What is left out on the way is added to `counts`; where
   * much of it may follow each other, `signal` is looked at meanwhile.
   */
  documents(counts: IntakeCounts, signal?: AbortSignal): AsyncIterable<DocumentPart>;
}
