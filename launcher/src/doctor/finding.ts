/** What `sluice doctor` says of one thing that it looked at. */

export interface Finding {
  readonly name: string;
  /** What there is, for people. */
  readonly found: string;
  readonly ok: boolean;
  /** What to do about it, when it is not as it should be. */
  readonly mend?: string;
  /** The same as values. */
  readonly values: Readonly<Record<string, unknown>>;
}
