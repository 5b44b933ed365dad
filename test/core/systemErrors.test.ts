import { isOutOfMemory, writeError } from '@sluice/core';
import test from 'ava';

test('the operating system’s refusals have codes, and other errors pass unchanged', (t) => {
  const refused = (code: string) =>
    writeError('f', Object.assign(new Error(code), { code })) as { code: string };
  for (const code of ['ENOSPC', 'EDQUOT']) t.is(refused(code).code, 'SLUICE_E_DISK_FULL');
  for (const code of ['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'ENAMETOOLONG', 'ELOOP', 'EFBIG', 'EIO'])
    t.is(refused(code).code, 'SLUICE_E_FILE_UNWRITABLE');
  const other = new Error('other');
  t.is(writeError('f', other), other);
});

test('failures to allocate are told from other errors', (t) => {
  const tooLarge = [
    () => new ArrayBuffer(2 ** 50),
    () => new Float32Array(2 ** 40),
    () => new SharedArrayBuffer(2 ** 53 - 1),
  ];
  for (const allocate of tooLarge) t.true(isOutOfMemory(t.throws(allocate, { any: true })));
  t.true(isOutOfMemory(new Error('native kernel gatedAttention: std::bad_alloc')));
  t.false(isOutOfMemory(new RangeError('Invalid array length')));
});
