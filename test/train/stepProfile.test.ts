import { type Profile, timeOf } from '@sluice/engine';
import { stepProfile } from '@sluice/train';
import test from 'ava';

const PROFILE: Profile = {
  totalMs: 100,
  isOnDevice: false,
  entries: [
    { name: 'SluiceLinear', pass: 'backward', calls: 4, kernelMs: 40, javascriptMs: 2 },
    { name: 'SluiceLinear', pass: 'forward', calls: 4, kernelMs: 20, javascriptMs: 1 },
    { name: 'SluiceLinearCrossEntropy', pass: 'forward', calls: 2, kernelMs: 10, javascriptMs: 1 },
    { name: 'adamW', pass: undefined, calls: 6, kernelMs: 5, javascriptMs: 0 },
    { name: 'squaredNorms', pass: undefined, calls: 6, kernelMs: 1, javascriptMs: 0 },
    { name: 'Identity', pass: 'forward', calls: 8, kernelMs: 0, javascriptMs: 3 },
    { name: 'Softmax', pass: 'forward', calls: 2, kernelMs: 4, javascriptMs: 0 },
  ],
};

test('the parts of a step and JavaScript add up to the step', (t) => {
  const { stepMs, parts, betweenKernelsMs, outsideOperationsMs, calls } = stepProfile(PROFILE, 2);
  t.is(stepMs, 50);
  const sum = parts.reduce((total, part) => total + part.forwardMs + part.backwardMs + part.updateMs, 0);
  t.is(sum + betweenKernelsMs, stepMs);
  t.is(betweenKernelsMs, 10);
  t.is(2 * outsideOperationsMs!, 100 - PROFILE.entries.reduce((total, entry) => total + timeOf(entry), 0));
  t.is(calls, 10);
});

test('where a device computes, what JavaScript does beside it is no part of the step', (t) => {
  const profile = stepProfile({ ...PROFILE, isOnDevice: true }, 2);
  t.is(profile.betweenKernelsMs, 10);
  t.false('outsideOperationsMs' in profile);
});

test('kernels are told by the part of the model that they belong to, in their passes', (t) => {
  t.deepEqual(stepProfile(PROFILE, 2).parts, [
    { name: 'linear layers', forwardMs: 10, backwardMs: 20, updateMs: 0 },
    { name: 'output layer, cross-entropy', forwardMs: 5, backwardMs: 0, updateMs: 0 },
    { name: 'AdamW, clipping', forwardMs: 0, backwardMs: 0, updateMs: 3 },
    { name: 'other operations', forwardMs: 2, backwardMs: 0, updateMs: 0 },
  ]);
});
