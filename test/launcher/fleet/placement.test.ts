import { SluiceError } from '@sluice/core';
import test from 'ava';
import fc from 'fast-check';
import type { Host } from '../../../launcher/src/fleet/host.ts';
import { hostsToLeaveOut, placeWorkers, worldThatFits } from '../../../launcher/src/fleet/placement.ts';

const host = (name: string, slots?: number) => ({ name, slots }) as unknown as Host;
const ranksOf = (hosts: readonly Host[], workers: number) =>
  placeWorkers(hosts, workers).map((place) => [place.host.name, place.ranks]);

test('ranks are prefix sums over the hosts, which share the workers evenly', (t) => {
  t.deepEqual(ranksOf([host('a'), host('b'), host('c')], 8), [
    ['a', [0, 1, 2]],
    ['b', [3, 4, 5]],
    ['c', [6, 7]],
  ]);
  t.deepEqual(ranksOf([host('a'), host('b')], 1), [['a', [0]]]);
});

test('a host takes no more workers than it has slots', (t) => {
  t.deepEqual(ranksOf([host('a', 1), host('b'), host('c', 2)], 8), [
    ['a', [0]],
    ['b', [1, 2, 3, 4, 5]],
    ['c', [6, 7]],
  ]);
  const error = t.throws(() => placeWorkers([host('a', 1), host('b', 2)], 4), { instanceOf: SluiceError });
  t.is(error.code, 'SLUICE_E_HOSTS_TOO_FEW');
  t.regex(error.message, /4 workers have no room on the hosts: a 1, b 2/);
});

test('a world that does not fit is halved until it does; experts are shared by no more workers than there are', (t) => {
  t.deepEqual(worldThatFits([host('a', 2), host('b', 3)], { workers: 8, expertParallel: 8 }), {
    workers: 4,
    expertParallel: 4,
  });
  t.deepEqual(worldThatFits([host('a')], { workers: 8, expertParallel: 2 }), {
    workers: 8,
    expertParallel: 2,
  });
});

test('whatever the slots, every rank has one place, ranks ascend, and no host has too many', (t) => {
  const slots = fc.array(fc.option(fc.integer({ min: 1, max: 9 }), { nil: undefined }), {
    minLength: 1,
    maxLength: 6,
  });
  fc.assert(
    fc.property(slots, fc.integer({ min: 0, max: 4 }), (each, exponent) => {
      const hosts = each.map((count, i) => host(`h${i}`, count));
      const { workers } = worldThatFits(hosts, { workers: 2 ** exponent, expertParallel: 1 });
      const places = placeWorkers(hosts, workers);
      t.deepEqual(
        places.flatMap(({ ranks }) => ranks),
        Array.from({ length: workers }, (_, rank) => rank),
      );
      for (const place of places)
        t.true(place.ranks.length <= (place.host.slots ?? Number.POSITIVE_INFINITY));
    }),
  );
});

test('of hosts that do not reach each other, as few as that takes are left out, the last of equals', (t) => {
  const order = ['h1', 'h2', 'h3', 'h4'];
  t.deepEqual(hostsToLeaveOut([], order), []);
  t.deepEqual(hostsToLeaveOut([['h1', 'h2']], order), ['h2']);
  const around = [
    ['h1', 'h2'],
    ['h2', 'h3'],
    ['h2', 'h4'],
  ] as const;
  t.deepEqual(hostsToLeaveOut(around, order), ['h2']);
  t.deepEqual(hostsToLeaveOut([['h3', 'h3']], order), ['h3']);
  const all = order.flatMap((one, i) => order.slice(i + 1).map((other): [string, string] => [one, other]));
  t.deepEqual(hostsToLeaveOut(all, order), ['h4', 'h3', 'h2']);
});
