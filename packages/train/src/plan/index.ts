export { DEVICE_NAMES, type Device, type DeviceName, deviceOf } from './devices.ts';
export { type MemoryPlan, planMemory } from './memory.ts';
export { type Plan, planRun, planTraffic, type TimePlan, type TrafficPlan } from './step.ts';
