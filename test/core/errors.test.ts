import { ERROR_TABLE, type ErrorCode, invariant, SluiceError } from '@sluice/core';
import test from 'ava';

test('every code of error has a summary and an advice that are sentences, and brings its advice along', (t) => {
  for (const [code, { summary, advice }] of Object.entries(ERROR_TABLE)) {
    t.regex(code, /^SLUICE_E_[A-Z_]+$/);
    for (const text of [summary, advice]) t.regex(text, /^\S.*[.?]$/, code);
    const cause = new Error('cause');
    const error = new SluiceError(code as ErrorCode, 'message', { details: { value: 3 }, cause });
    t.deepEqual(error.toJSON(), { code, message: 'message', advice, details: { value: 3 } });
    t.is(error.cause, cause);
  }
});

test('an error may know better what to do than the table', (t) => {
  const error = new SluiceError('SLUICE_E_OUT_OF_MEMORY', 'message', { advice: 'Take less.' });
  t.is(error.toJSON().advice, 'Take less.');
});

test('a broken invariant is no error of the user', (t) => {
  t.notThrows(() => invariant(1 + 1 === 2, 'arithmetic'));
  const error = t.throws(() => invariant(false, 'two is three'));
  t.false(error instanceof SluiceError);
  t.regex(error!.message, /two is three/);
});
