/** Kernels for NVIDIA GPUs, and the device, real or emulated, that they run on. */

export { Arena, type ArenaDriver } from './arena.ts';
export * from './attention.ts';
export * from './attentionHeads.ts';
export { CUDA_BACKEND, CudaBackend, cudaBackend, type TensorArray, type TensorStorage } from './backend.ts';
export {
  type Ceilings,
  type KernelRate,
  measureCeilings,
  measureRate,
  measureRates,
  PEAK_INSTRUCTIONS,
  type PeakInstruction,
  ratesNamed,
  shareOf,
} from './bench.ts';
export * from './cachedAttention.ts';
export { attentionErrors, LAYOUT, type Operands, operandsOf, runAttention } from './cases/attention.ts';
export {
  BF16_ROUNDING,
  BorrowedMemory,
  type Errors,
  floatsOf,
  type KernelCase,
  randomArray,
  worstShare,
} from './cases/case.ts';
export { CHECKS, checksFor } from './cases/checks.ts';
export { rmsNormCase } from './cases/norms.ts';
export { PRODUCTS, type ProductName, productCase } from './cases/products.ts';
export { type RateCase, rateCases, SCALES, type Scale, type Yardstick } from './cases/rates.ts';
export { crossEntropyInDouble } from './cases/tokens.ts';
export { type CrossEntropyArguments, linearCrossEntropy } from './crossEntropy.ts';
export { type CubinKernel, cubinKernels } from './cubin.ts';
export { deltaChunks, deltaChunksBackward } from './deltaChunks.ts';
export { deltaRule, deltaRuleBackward } from './deltaRule.ts';
export * from './device.ts';
export { CudaDriver, explained, type Grid } from './driver.ts';
export { type Declares, deviceFunctions, driverFunctions, parameterFunctions } from './driverFunctions.ts';
export * from './emulator.ts';
export * from './expertRows.ts';
export * from './experts.ts';
export * as flat from './flatArithmetic.ts';
export { cudaFlatMemory } from './flatMemory.ts';
export * from './gateHeads.ts';
export * from './golden.ts';
export { CUDA, LAYOUTS, NCCL, NVRTC } from './header.ts';
export { cachedFile, cacheFolder } from './kernelCache.ts';
export {
  HOPPER,
  isFor,
  type KernelSignature,
  type KernelSource,
  kernelFiles,
  kernelHeaders,
  kernelSource,
  parameterBytes,
  type Storage,
  signatures,
} from './kernelSource.ts';
export { findNccl, findNvrtc } from './libraries.ts';
export * from './limits.ts';
export { cudaLinks } from './links.ts';
export { Nccl, ncclFunctions, ncclVersion } from './nccl.ts';
export { type KernelResources, Nvrtc, nvrtcFunctions, resourcesOf } from './nvrtc.ts';
export { architectureOf, cachingCompiler, cubinName, openCompiler, openDevice } from './open.ts';
export * from './operations.ts';
export * from './products.ts';
export type { ProductShape } from './productTiles.ts';
export { TILES, type Tile, tileFor } from './productTiles.ts';
export type { RecurrenceOperands, States } from './recurrenceOperands.ts';
export { openBackend } from './register.ts';
export * from './routing.ts';
export * from './shortConvolution.ts';
export { generatedSources } from './stock/index.ts';
export type { Matrices, TensorMap } from './tensorMaps.ts';
export { masterOf, weightsOf } from './weights.ts';
