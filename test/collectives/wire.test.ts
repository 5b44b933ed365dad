import test from 'ava';
import { decodeHeader, encodeHeader, type MessageHeader } from '../../packages/collectives/src/wire.ts';

const TAG = 0xfedcba98;
const header: MessageHeader = {
  kind: 'data',
  operation: 'allToAll',
  dataType: 'uint8',
  phase: 1,
  group: 0xffffffff,
  sequence: 2 ** 32 + 7,
  from: 1023,
  offset: 2 ** 33,
  total: 2 ** 34,
};
const placement = { place: 2 ** 47, placedBytes: 2 ** 31, isAddress: true };

test('a header is read as it was written, also of an operation beyond the 2^32nd', (t) => {
  t.deepEqual(decodeHeader(encodeHeader(header, TAG, placement), TAG), { ...header, ...placement });
  const nowhere = { place: 0, placedBytes: 0, isAddress: false };
  t.deepEqual(decodeHeader(encodeHeader(header, TAG), TAG), { ...header, ...nowhere });
});

test('a header of another run, or of another length, is none', (t) => {
  const frame = encodeHeader(header, TAG);
  t.is(decodeHeader(frame, TAG + 1), undefined);
  t.is(decodeHeader(frame.subarray(1), TAG), undefined);
});
