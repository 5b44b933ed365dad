/**
 * The one table of errors. A user's mistake, or a fault of the surroundings, is a `SluiceError` with a stable
 * code, a message that shows the offending value, and advice. Broken invariants of our own are assertions.
 *
 * `docs/errors.md` is generated from this table by `npm run docs`.
 */

interface ErrorEntry {
  /** What happened, for the documentation page. */
  readonly summary: string;
  /** What the user can do about it. */
  readonly advice: string;
}

export const ERROR_TABLE = {
  SLUICE_E_CONFIG_SYNTAX: {
    summary: 'A YAML file cannot be parsed.',
    advice: 'Mend the file at the line and column shown.',
  },
  SLUICE_E_CONFIG_INVALID: {
    summary: 'A configuration has an unknown key, or a value of the wrong type or range.',
    advice: 'Correct the key or value at the line and column shown; the nearest valid key is suggested.',
  },
  SLUICE_E_CONFIG_OVERRIDE: {
    summary: 'An override given with --set is malformed or names no key.',
    advice: 'Write --set section.key=value, with a key that the configuration knows.',
  },
  SLUICE_E_FILE_MISSING: {
    summary: 'A file or directory that was named does not exist.',
    advice: 'Check the path; relative paths start from the current directory.',
  },
  SLUICE_E_FILE_UNWRITABLE: {
    summary: 'A file or directory cannot be written.',
    advice: 'Check permissions and ownership, or choose another directory.',
  },
  SLUICE_E_DISK_FULL: {
    summary: 'The disk ran out of space while writing.',
    advice: 'Free space, or choose another directory; what was complete before is intact.',
  },
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof ERROR_TABLE;

/** An error that a user can act on. `details` are machine-readable and appear in `--json` output. */
export class SluiceError extends Error {
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    code: ErrorCode,
    message: string,
    options: { details?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'SluiceError';
    this.code = code;
    this.details = options.details ?? {};
  }

  get advice(): string {
    return ERROR_TABLE[this.code].advice;
  }

  toJSON(): Record<string, unknown> {
    return { code: this.code, message: this.message, advice: this.advice, details: this.details };
  }
}

/** Turns the operating system's refusal to write `path` into a coded error; other errors pass unchanged. */
export function writeError(path: string, error: unknown): unknown {
  const code = (error as NodeJS.ErrnoException)?.code;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new SluiceError('SLUICE_E_DISK_FULL', `No space left while writing ${path}.`, {
      details: { path },
      cause: error,
    });
  }
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS' || code === 'ENOTDIR' || code === 'EEXIST') {
    return new SluiceError('SLUICE_E_FILE_UNWRITABLE', `Cannot write ${path} (${code}).`, {
      details: { path, errno: code },
      cause: error,
    });
  }
  return error;
}

/** Throws when an invariant of the program itself is broken; never for a user's mistake. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`Broken invariant: ${message}`);
}
