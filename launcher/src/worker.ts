/** Entry of a worker process: joins the others and the coordinator, then computes what it is asked to until told to stop. */

import type { BenchRequest } from '@sluice/collectives';

// Stopping is the coordinator's decision alone, whoever sent the signal.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1']) process.on(signal, () => {});
// The channel closes when the coordinator is gone, however it went; a worker without one must not live on.
process.on('disconnect', () => process.exit(1));

// Imported only now, so that the handlers above are in place from the first moment.
const [{ Communicator, measureOperation, receiveInvitation }, { createTrainingWorker }] = await Promise.all([
  import('@sluice/collectives'),
  import('@sluice/train'),
]);

const communicator = await Communicator.connect(await receiveInvitation());
await communicator.serve({
  ...createTrainingWorker(communicator),
  measure: (request: BenchRequest) => measureOperation(communicator, request),
});
await communicator.close();
process.removeAllListeners('disconnect');
process.disconnect?.();
