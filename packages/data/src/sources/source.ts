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

export interface TextSourceReader {
  /** What to call the source in a sample's provenance. */
  readonly label: string;
  readonly files: readonly SourceFile[];
  /** All documents, the same ones in the same order each time. */
  documents(): AsyncIterable<DocumentPart>;
}
