import { nativeCore } from '@sluice/engine';
import test from 'ava';
import { makeBuffer, makeFloats, makeSharedFloats } from '../../packages/engine/src/memory.ts';

const LENGTHS = [1, 3, 1000, 600_001];
const skipWithoutCore = nativeCore() ? test : test.skip;

skipWithoutCore('memory for tensors and for parameters begins at a cache line', (t) => {
  const beyond = (array: Float32Array) => nativeCore()!.beyondCacheLine!(array, 1);
  for (const length of LENGTHS) {
    t.is(beyond(makeFloats(length)), 0);
    t.is(beyond(makeSharedFloats(length)), 0);
  }
  t.is(beyond(makeFloats(17).subarray(3)), 12);
});

test('memory has the size that was asked for; what threads share is zero', (t) => {
  for (const length of LENGTHS) {
    t.is(makeBuffer(length * 4).byteLength, length * 4);
    t.is(makeFloats(length).length, length);
    const shared = makeSharedFloats(length);
    t.is(shared.length, length);
    t.true(shared.buffer instanceof SharedArrayBuffer);
    t.true(shared.every((value) => value === 0));
  }
});
