/** Entry of a process of `benchCollectives`. */

import { Communicator } from './communicator.ts';
import { receiveInvitation } from './invitation.ts';
import { type BenchRequest, measureOperation } from './measureOperation.ts';

const communicator = await Communicator.connect(await receiveInvitation());
await communicator.serve({ bench: (request: BenchRequest) => measureOperation(communicator, request) });
await communicator.close();
