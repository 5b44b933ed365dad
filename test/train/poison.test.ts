import { poisonFrom, vainPoison } from '@sluice/train';
import test from 'ava';

test('a flip in a rank that no worker has is told, and one in the last rank is not', (t) => {
  const flip = (rank: number) => poisonFrom(JSON.stringify({ flip: { step: 3, rank } }));
  t.is(vainPoison(flip(1), 2), undefined);
  t.regex(vainPoison(flip(2), 2)!, /a bit flip in rank 2, which none of the 2 worker\(s\) has/);
  t.is(vainPoison(poisonFrom('{"garbage":{"steps":[1,2]}}'), 1), undefined);
});
