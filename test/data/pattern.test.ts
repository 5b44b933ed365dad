import test from 'ava';
import { Pattern } from '../../packages/data/src/sources/pattern.ts';

test('an expression that tries everything is stopped, and told with the document', (t) => {
  const pattern = new Pattern('(a+)+b', 'remove[0]', 50);
  const text = 'a'.repeat(200);
  const expectation = {
    code: 'SLUICE_E_DATA_PATTERN',
    message: 'x.txt, document 3: remove[0] /(a+)+b/ has not come to the end of 200 characters after 0.05 s.',
  };
  t.throws(() => pattern.removedFrom(text, 'x.txt, document 3'), expectation);
  t.throws(() => pattern.matches(text, 0, 'x.txt, document 3'), expectation);
  t.is(pattern.removedFrom('xaabx', 'x.txt'), 'xx');
});

test('matches begin where they are looked for, and see what is before', (t) => {
  const pattern = new Pattern('(?<=a)b', 'documentSeparator');
  t.deepEqual(
    pattern.matches('abab', 1, '').map(({ index }) => index),
    [1, 3],
  );
  t.deepEqual(
    pattern.matches('abab', 2, '').map(({ index }) => index),
    [3],
  );
});
