export {
  type CollectiveArray,
  type ElementRange,
  sharedFloat32,
  sharedFloat64,
  sharedInt32,
  sharedUint8,
} from './arrays.ts';
export { Exchange } from './exchange.ts';
export { type Faults, FaultyTransport } from './faulty-transport.ts';
export { inProcessWorld } from './in-process-transport.ts';
export { evenSlices, ProcessGroup, type ProcessGroupOptions } from './process-group.ts';
export type { MessageHandler, Payload, Transport } from './transport.ts';
export { type MessageHeader, PROTOCOL_VERSION } from './wire.ts';
