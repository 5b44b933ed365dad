import * as tf from '@tensorflow/tfjs';
import { registerNativeBackend } from './backend.ts';

// Skips TensorFlow.js's checks of every call, and its advice to install another backend.
tf.enableProdMode();
// Before the operations, which register their kernels for it.
registerNativeBackend();

export type { AdamWBuffers, AdamWSettings } from './adamW.ts';
export { adamW } from './adamW.ts';
export { NATIVE_BACKEND, NativeBackend, nativeBackend } from './backend.ts';
export type { NativeBuildInfo } from './native.ts';
export { nativeBuildInfo, nativeCore, setThreads, threads } from './native.ts';
export * from './ops/addResidual.ts';
export * from './ops/dispatchTokens.ts';
export * from './ops/embedding.ts';
export * from './ops/exchangeRows.ts';
export * from './ops/rmsNorm.ts';
export * from './ops/routeExperts.ts';
export * from './ops/whenGradient.ts';
export type { GradientSink, GradientTarget } from './parameter.ts';
export { computeGradients, isRecording, Parameter } from './parameter.ts';
export type { PoolStatistics } from './pool.ts';
export type { SummableArray } from './reductions.ts';
export { squaredNorms, sumInto, sumTree } from './reductions.ts';
export { arithmetic, selectBackend } from './select.ts';
