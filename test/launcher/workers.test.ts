import type { SluiceError } from '@sluice/core';
import test from 'ava';
import { agreed, withPlaces } from '../../launcher/src/coordinator/workers.ts';
import type { Host } from '../../launcher/src/fleet/host.ts';
import { placeWorkers } from '../../launcher/src/fleet/placement.ts';

test('workers that disagree are told with what each says, and on which hosts they are', (t) => {
  const answers = [1, 1, 2].map((loss) => ({ loss }));
  const error = t.throws<SluiceError>(() => agreed('the probe at step 4', answers, ['loss']), {
    code: 'SLUICE_E_WORKERS_DISAGREE',
  });
  t.is(error.message, 'the probe at step 4: rank 0 says loss 1, rank 2 says 2.');
  const hosts = [
    { name: 'h1', slots: 2 },
    { name: 'h2', slots: 1 },
  ] as Host[];
  const { message } = withPlaces(error, placeWorkers(hosts, 3)) as SluiceError;
  t.is(message, `${error.message} h1 has ranks 0, 1; h2 has ranks 2.`);
  t.is(withPlaces(error, placeWorkers(hosts.slice(0, 1), 2)), error);
});
