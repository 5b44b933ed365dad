/** Kernels for NVIDIA GPUs, and the device, real or emulated, that they run on. */

export { Arena, type ArenaDriver } from './arena.ts';
export * from './attention.ts';
export * from './attentionHeads.ts';
export { CUDA_BACKEND, CudaBackend, cudaBackend, type TensorArray, type TensorStorage } from './backend.ts';
export * from './cachedAttention.ts';
export { type CubinKernel, cubinKernels } from './cubin.ts';
export * from './deltaRule.ts';
export * from './device.ts';
export { CudaDriver } from './driver.ts';
export * from './emulator.ts';
export * from './expertRows.ts';
export * from './experts.ts';
export * as flat from './flatArithmetic.ts';
export { cudaFlatMemory } from './flatMemory.ts';
export * from './gateHeads.ts';
export {
  type KernelSignature,
  type KernelSource,
  kernelFiles,
  kernelHeaders,
  kernelSource,
  type Storage,
  signatures,
} from './kernelSource.ts';
export { findNvrtc } from './libraries.ts';
export { type KernelResources, Nvrtc, resourcesOf } from './nvrtc.ts';
export { architectureOf, cachingCompiler, openDevice } from './open.ts';
export * from './operations.ts';
export * from './routing.ts';
export * from './shortConvolution.ts';
export { generatedSources } from './stock/index.ts';
export { masterOf, weightsOf } from './weights.ts';
