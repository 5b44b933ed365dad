/** Kernels for NVIDIA GPUs, and the device, real or emulated, that they run on. */

export * from './attention.ts';
export { type CubinKernel, cubinKernels } from './cubin.ts';
export * from './device.ts';
export { CudaDriver } from './driver.ts';
export * from './emulator.ts';
export * as flat from './flatArithmetic.ts';
export { cudaFlatMemory } from './flatMemory.ts';
export {
  type KernelSignature,
  type KernelSource,
  kernelFiles,
  kernelHeaders,
  kernelSource,
  type Storage,
  signatures,
} from './kernelSource.ts';
export { type KernelResources, Nvrtc, resourcesOf } from './nvrtc.ts';
export * from './operations.ts';
