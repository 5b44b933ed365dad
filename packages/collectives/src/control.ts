/** What messages between processes of a run are made of, for those that carry no collective. */

export { awakeTimeout } from './awakeTime.ts';
export {
  decodeMessage,
  type ErrorData,
  encodeMessage,
  errorFromData,
  errorToData,
  type Message,
} from './controlProtocol.ts';
export { Outbox } from './outbox.ts';
export { makeRuntimeDirectory } from './runtimeDirectory.ts';
export { Authenticator, CURVE_OVERHEAD_BYTES, connectorSecurity, listenerSecurity } from './security.ts';
export { removeRings, sweepRings } from './sharedRing.ts';
export { connectTo, listenAt, receiveAll } from './sockets.ts';
