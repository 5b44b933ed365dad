export {
  type Cluster,
  type Link,
  oneHost,
  TOPOLOGIES,
  type TopologyKind,
} from './cluster.ts';
export { DEVICE_NAMES, type Device, type DeviceName, deviceOf, flopsPerSecondOf } from './devices.ts';
export * from './goodput.ts';
export { heldElements } from './held.ts';
export { type HostMemoryPlan, type MemoryPlan, planHostMemory, planMemory, savedBytes } from './memory.ts';
export { type Speed, scheduleOf, stepTimes } from './schedule.ts';
export { type Plan, planRun, planTraffic, speedOf, type TimePlan, type TrafficPlan } from './step.ts';
export type { StepTimes } from './stepTimes.ts';
