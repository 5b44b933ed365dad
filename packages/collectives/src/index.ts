export {
  type CollectiveArray,
  consecutiveRanges,
  type ElementRange,
  type FloatWire,
  sharedFloat32,
  sharedFloat64,
  sharedInt32,
} from './arrays.ts';
export { benchReport, type CollectivesBenchReport, ITERATIONS } from './bench.ts';
export { MEASURED_OPERATIONS, type MeasuredOperation } from './benchOperations.ts';
export { type Blocked, monotonicMs } from './blockedTime.ts';
export { Communicator, type ConnectOptions, type Methods } from './communicator.ts';
export type { WaitKind } from './controlProtocol.ts';
export { type CallOptions, ControlServer, type ListenOptions, type WorkerInfo } from './controlServer.ts';
export { DETOUR_VARIABLE, type Detour, DetourService, detoured } from './detour.ts';
export { Exchange } from './exchange.ts';
export { type Faults, FaultyTransport } from './faultyTransport.ts';
export type { Group, Pending } from './group.ts';
export { HierarchicalGroup } from './hierarchicalGroup.ts';
export { type HostGrid, hostGrid, LEAST_HIERARCHICAL_BYTES } from './hostGrid.ts';
export { inProcessWorld } from './inProcessTransport.ts';
export { type Invitation, type Protection, receiveInvitation } from './invitation.ts';
export { type BenchRequest, type BenchResult, measureOperation } from './measureOperation.ts';
export { OperationRecord, type OperationSpan, type WaitSpan } from './operationRecord.ts';
export type { Outside } from './outsideOperation.ts';
export { ProcessGroup, type ProcessGroupOptions } from './processGroup.ts';
export { runtimeParent } from './runtimeDirectory.ts';
export { type CurveKeys, generateCurveKeys } from './security.ts';
export { sweepRings } from './sharedRing.ts';
export { TcpProxy } from './tcpProxy.ts';
export { soloGroup } from './threadGroup.ts';
export type { WorkerLimits } from './threadProtocol.ts';
export type { MessageHandler, Payload, Transport } from './transport.ts';
export { type MessageHeader, PROTOCOL_VERSION } from './wire.ts';
export type { WorkerState } from './workerState.ts';
export { type TransportKind, ZeroMqTransport, type ZeroMqTransportOptions } from './zeromqTransport.ts';
