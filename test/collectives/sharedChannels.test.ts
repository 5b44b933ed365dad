import { closeSync, existsSync, fstatSync, openSync, readlinkSync } from 'node:fs';
import test from 'ava';
import { ChannelMemory, type PieceHeader } from '../../packages/collectives/src/sharedChannels.ts';

const available = ChannelMemory.create(2);
const where = available === undefined ? test.skip : test;
available?.seal();

function pair() {
  const [a, b] = [ChannelMemory.create(2)!, ChannelMemory.create(2)!];
  return [a.connect(0, 1, b.card)!, b.connect(1, 0, a.card)!] as const;
}

const header = (sequence: number, length: number): PieceHeader => ({
  sequence,
  dataType: 1,
  total: 2 * length,
  length,
});

where('pieces arrive in order, as they were sent, and no more than there are slots wait', (t) => {
  const [one, other] = pair();
  let sent = 0;
  let read = 0;
  // The counters go round the slots many times, at every distance between writer and reader.
  for (let round = 0; round < 50; round++) {
    for (let i = 0; i <= round % 4 && one.hasRoom; i++, sent++) {
      one.put(header(sent, 3), Uint8Array.of(sent, sent + 1, sent + 2));
    }
    t.true(sent - read <= 4);
    for (let i = 0; i <= (round * 7) % 3; i++) {
      const next = other.next();
      if (next === undefined) break;
      t.deepEqual(next, header(read, 3));
      const bytes = new Uint8Array(3);
      other.take(bytes);
      t.deepEqual([...bytes], [read % 256, (read + 1) % 256, (read + 2) % 256]);
      read++;
    }
  }
  t.true(read > 40);
  while (one.hasRoom) one.put(header(sent++, 1), Uint8Array.of(0));
  t.is(sent - read, 4);
  t.is(one.next(), undefined, 'the way back is another one');
});

where('the memory has no name, and is bounded for groups of any size', (t) => {
  for (const size of [2, 3, 8, 64]) {
    const memory = ChannelMemory.create(size)!;
    const [, descriptor] = memory.card as [number, number];
    t.regex(readlinkSync(`/proc/self/fd/${descriptor}`), /\(deleted\)$/);
    t.true(fstatSync(descriptor).size <= (4 << 20) + 64 * (1 << 18) * Number(size > 16) + (1 << 16));
    memory.seal();
    t.false(existsSync(`/proc/self/fd/${descriptor}`));
  }
});

where('what is not the memory of a peer is not taken for it', (t) => {
  const memory = ChannelMemory.create(2)!;
  const [pid, descriptor, ...mark] = ChannelMemory.create(2)!.card as number[];
  t.truthy(memory.connect(0, 1, [pid!, descriptor!, ...mark]));
  t.is(memory.connect(0, 1, [pid!, descriptor!, ...mark.map((word) => word + 1)]), undefined);
  t.is(memory.connect(0, 1, [0, 0, 0, 0]), undefined);
  t.is(memory.connect(0, 1, ChannelMemory.create(64)!.card), undefined, 'of a group of another size');
  const file = openSync('/dev/null', 'r');
  t.is(memory.connect(0, 1, [pid!, file, ...mark]), undefined);
  closeSync(file);
});
