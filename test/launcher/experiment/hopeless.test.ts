import test from 'ava';
import fc from 'fast-check';
import { hopelessStep } from '../../../launcher/src/experiment/hopeless.ts';

const rule = { lossBound: 5, lastingSteps: 3, afterStep: 4 };

test('a run is hopeless after the first lasting stretch above the bound, and no earlier than it may be judged', (t) => {
  t.is(hopelessStep([9, 9, 9], rule), undefined);
  t.is(hopelessStep([9, 9, 9, 9], rule), 4);
  t.is(hopelessStep([9, 4, 4, 4, 4, 9, 9], rule), 6);
  t.is(hopelessStep([9, 4, 4, 4, 9, 4, 4, 5], rule), 5);
});

test('a loss that is no number makes a run hopeless', (t) => {
  t.is(hopelessStep([4, 4, 4, 4, null], rule), 5);
});

test('a curve that goes on is hopeless at the same step', (t) => {
  const loss = fc.double({ min: 0, max: 10, noNaN: true });
  const holds = fc.property(fc.array(loss, { maxLength: 40 }), fc.array(loss), (begun, rest) => {
    const step = hopelessStep(begun, rule);
    return step === undefined || hopelessStep([...begun, ...rest], rule) === step;
  });
  t.notThrows(() => fc.assert(holds));
});

test('of a curve that goes on, what was judged is not judged again', (t) => {
  t.is(hopelessStep([9, 9, 9, 9, 4, 4, 4], rule, 6), undefined);
  const loss = fc.double({ min: 4, max: 6, noNaN: true });
  const holds = fc.property(fc.array(loss, { maxLength: 20 }), fc.array(loss), (begun, rest) => {
    const all = [...begun, ...rest];
    return (hopelessStep(begun, rule) ?? hopelessStep(all, rule, begun.length)) === hopelessStep(all, rule);
  });
  t.notThrows(() => fc.assert(holds));
});
