/** What the operating system and V8 refuse, as errors that a user can act on. */

import { SluiceError } from './errors.ts';

/** What the operating system says of a path that cannot be written, whatever the disk holds. */
const UNWRITABLE: ReadonlySet<string> = new Set([
  'EACCES',
  'EPERM',
  'EROFS',
  'ENOTDIR',
  'EISDIR',
  'EEXIST',
  'ENAMETOOLONG',
  'ELOOP',
  'EFBIG',
  'EIO',
  'EBADF',
  'ENXIO',
  'ENODEV',
  'ESTALE',
  'EBUSY',
  'ETXTBSY',
]);

/** Turns the operating system's refusal to write `path` into a coded error; other errors pass unchanged. */
export function writeError(path: string, error: unknown): unknown {
  const code = (error as NodeJS.ErrnoException)?.code;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new SluiceError('SLUICE_E_DISK_FULL', `No space left while writing ${path}.`, {
      details: { path },
      cause: error,
    });
  }
  if (code !== undefined && UNWRITABLE.has(code)) {
    return new SluiceError('SLUICE_E_FILE_UNWRITABLE', `Cannot write ${path} (${code}).`, {
      details: { path, errno: code },
      cause: error,
    });
  }
  return error;
}

/** The operating system's refusal to read `path`, which is there, as a coded error. */
export function unreadable(path: string, error: unknown): SluiceError {
  const { code } = error as NodeJS.ErrnoException;
  return new SluiceError('SLUICE_E_FILE_MISSING', `${path} cannot be read (${code}).`, {
    details: { path, errno: code },
    cause: error,
  });
}

/** Whether V8 or the C++ core failed to allocate memory. */
export function isOutOfMemory(error: unknown): boolean {
  return (
    error instanceof Error &&
    /Array buffer allocation failed|std::bad_alloc|^Invalid (typed array|array buffer) length/.test(
      error.message,
    )
  );
}
