import { type Profile, timeOf } from '@sluice/engine';
import { stepProfile } from '@sluice/train';
import test from 'ava';

const PROFILE: Profile = {
  totalMs: 100,
  entries: [
    { name: 'SluiceLinear', pass: 'backward', calls: 4, nativeMs: 40, javascriptMs: 2 },
    { name: 'SluiceLinear', pass: 'forward', calls: 4, nativeMs: 20, javascriptMs: 1 },
    { name: 'SluiceLinearCrossEntropy', pass: 'forward', calls: 2, nativeMs: 10, javascriptMs: 1 },
    { name: 'adamW', pass: undefined, calls: 6, nativeMs: 5, javascriptMs: 0 },
    { name: 'squaredNorms', pass: undefined, calls: 6, nativeMs: 1, javascriptMs: 0 },
    { name: 'Identity', pass: 'forward', calls: 8, nativeMs: 0, javascriptMs: 3 },
    { name: 'Softmax', pass: 'forward', calls: 2, nativeMs: 4, javascriptMs: 0 },
  ],
};

test('the parts of a step and JavaScript add up to the step', (t) => {
  const { stepMs, parts, javascriptMs, outsideKernelsMs, calls } = stepProfile(PROFILE, 2);
  t.is(stepMs, 50);
  const sum = parts.reduce((total, part) => total + part.forwardMs + part.backwardMs + part.updateMs, 0);
  t.is(sum + javascriptMs, stepMs);
  t.is(javascriptMs, 10);
  t.is(2 * outsideKernelsMs, 100 - PROFILE.entries.reduce((total, entry) => total + timeOf(entry), 0));
  t.is(calls, 10);
});

test('kernels are told by the part of the model that they belong to, in their passes', (t) => {
  t.deepEqual(stepProfile(PROFILE, 2).parts, [
    { name: 'linear layers', forwardMs: 10, backwardMs: 20, updateMs: 0 },
    { name: 'output layer, cross-entropy', forwardMs: 5, backwardMs: 0, updateMs: 0 },
    { name: 'AdamW, clipping', forwardMs: 0, backwardMs: 0, updateMs: 3 },
    { name: 'other operations', forwardMs: 2, backwardMs: 0, updateMs: 0 },
  ]);
});
