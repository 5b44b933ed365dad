import * as tf from '@tensorflow/tfjs';
import { registerNativeBackend } from './backend.ts';
import './ops/matMul.ts';
import './stockKernels.ts';
import './sumGradients.ts';

// Skips TensorFlow.js's checks of every call.
tf.enableProdMode();
registerNativeBackend();

export type { AdamWBuffers, AdamWSettings } from './adamW.ts';
export { adamW } from './adamW.ts';
export type { AttentionRow, AttentionStatistics, QueriesKeys } from './attentionStatistics.ts';
export { attentionStatistics, forEachAttentionRow, statisticsOfHead } from './attentionStatistics.ts';
export { NATIVE_BACKEND, NativeBackend, nativeBackend, poolStatistics, readValues } from './backend.ts';
export type { Backend, InstallablePackage } from './backends/backend.ts';
export { BACKEND_NAMES, BACKENDS, type BackendName } from './backends/index.ts';
export { backendDirectory, sharesTensorflow } from './backends/location.ts';
export {
  type TensorflowInstallation,
  tensorflowInstallation,
  tensorflowPackage,
  tensorflowRecordFile,
} from './backends/tensorflow.ts';
export {
  benchKernels,
  KERNEL_CASES,
  type KernelBench,
  type KernelBenchOptions,
  type KernelMeasurement,
} from './bench/kernels.ts';
export { addRounded, roundToBfloat16, sumTreeBfloat16 } from './bfloat16.ts';
export type { CxxCompiler } from './compiler.ts';
export { compilerCandidates, cxxCompiler } from './compiler.ts';
export { arithmetic, type Computation, computation, nativeArithmetic } from './computation.ts';
export { deltaRuleBytes, takesChunks } from './cuda/deltaRuleMemory.ts';
export type { Activations } from './cuda/device.ts';
export { cudaDriver, DRIVER_LIBRARY, isCudaEmulated } from './cuda/environment.ts';
export { arenaBytes, SHARE_OF_OTHERS, TOKENS_TOGETHER } from './cuda/memorySizes.ts';
export { CUDA_SIZES } from './cuda/sizes.ts';
export type { DeviceLink, DeviceLinks, LinkEnd, LinkOperation, Peers, WatchLink } from './deviceLink.ts';
export { deviceLinks } from './deviceLink.ts';
export type { DeviceMeter, LaunchTime, LaunchTiming, ProductPeak } from './deviceMeter.ts';
export { deviceMeter } from './deviceMeter.ts';
export type { AdamWUpdate, FlatMemory, RoundedMemory } from './flatMemory.ts';
export {
  changeOnHost,
  changeOnHostAsync,
  flatMemory,
  hostArray,
  registerFlatMemory,
  valuesOnHost,
} from './flatMemory.ts';
export type { Floats } from './floats.ts';
export { forgetUntilGradient } from './fused.ts';
export { computeGradients, computeGradientsAsync } from './gradients.ts';
export type { ProductSizes } from './matrixProduct.ts';
export { matrixProduct, measureSgemmPeak } from './matrixProduct.ts';
export type { MuonBuffers, MuonSettings } from './muon.ts';
export { Muon, muonScratchElements, orthogonalize } from './muon.ts';
export type { NativeBuildInfo } from './native.ts';
export { buildCommand, nativeAbsence, nativeBuildInfo, nativeCore, setThreads, threads } from './native.ts';
export * from './ops/addResidual.ts';
export * from './ops/attentionHeads.ts';
export * from './ops/attentionLayout.ts';
export * from './ops/cachedAttention.ts';
export * from './ops/dispatchTokens.ts';
export * from './ops/embedding.ts';
export * from './ops/everyExpert.ts';
export * from './ops/exchangedExperts.ts';
export * from './ops/expertFeedForward.ts';
export * from './ops/gatedAttention.ts';
export * from './ops/gatedDeltaRule.ts';
export * from './ops/gatedFeedForward.ts';
export * from './ops/gateHeads.ts';
export { gatherRows } from './ops/gatherRows.ts';
export * from './ops/kimiDeltaRule.ts';
export * from './ops/largestOfRow.ts';
export * from './ops/linear.ts';
export * from './ops/linearCrossEntropy.ts';
export { DELTA_RULE_CHUNK, deltaRuleScratch, type RecurrenceLayout } from './ops/recurrence.ts';
export * from './ops/rmsNorm.ts';
export * from './ops/rotaryEmbedding.ts';
export * from './ops/routeExperts.ts';
export * from './ops/shortConvolution.ts';
export { inSinglePrecision } from './ops/singlePrecision.ts';
export * from './ops/softcap.ts';
export * from './ops/whenGradient.ts';
export type { GradientSink, GradientTarget } from './parameter.ts';
export { Parameter } from './parameter.ts';
export type { PoolStatistics } from './pool.ts';
export { pooledBytes } from './pool.ts';
export { PRECISIONS, type Precision, precisionOn } from './precision.ts';
export type { Clock, Pass, Profile, ProfileEntry } from './profile.ts';
export { cpuClock, profile, timeOf, wallClock } from './profile.ts';
export { readsSynchronously, whenRead, withReads } from './reads.ts';
export { recomputed } from './recompute.ts';
export type { SummableArray } from './reductions.ts';
export { squaredNorms, sumInto, sumTree } from './reductions.ts';
export type { EngineReport } from './report.ts';
export { engineReport } from './report.ts';
export { selectBackend } from './select.ts';
export { isRecording, withoutGradient } from './tape.ts';
export { zeroCentred } from './zeroCentred.ts';
