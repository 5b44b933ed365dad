import type { FleetState } from '@sluice/observe';
import type { StepSeconds } from '@sluice/train';
import test from 'ava';
import { fleetAfterStep } from '../../launcher/src/coordinator/fleetView.ts';
import type { StepReport } from '../../launcher/src/coordinator/trainingRun.ts';

test('a host is shown with the longest own work of its workers, without their waiting', async (t) => {
  const shown: FleetState[] = [];
  const faults = { restarts: 2, lastFault: 'h3 is lost' };
  const board = { placeOf: (rank: number) => ({ name: '', host: rank < 2 ? 'h1' : 'h2' }), faults };
  const after = fleetAfterStep({ missing: () => ['h3'] } as never, board as never, {
    fleet: (state) => shown.push(state),
  });
  const seconds = (own: number): StepSeconds => ({
    ...{ total: 10, compute: own, waiting: 10 - own, communicate: 0, optimize: 0 },
  });
  await after({} as never, { ranks: [3, 4, 6, 5].map(seconds) } as unknown as StepReport);
  t.deepEqual(shown, [
    {
      hosts: [
        { name: 'h1', seconds: 4 },
        { name: 'h2', seconds: 6 },
      ],
      missing: ['h3'],
      ...faults,
    },
  ]);
});
