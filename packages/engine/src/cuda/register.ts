/** Makes `cuda` known to TensorFlow.js. */

import * as tf from '@tensorflow/tfjs';
import { registerDeviceLinks } from '../deviceLink.ts';
import { registerDeviceMeter } from '../deviceMeter.ts';
import { registerFlatMemory } from '../flatMemory.ts';
import { CUDA_BACKEND, CudaBackend, cudaBackend } from './backend.ts';
import { measureProductPeak } from './bench.ts';
import type { DeviceArray } from './device.ts';
import { cudaFlatMemory } from './flatMemory.ts';
import { CudaFusedMemory } from './fusedMemory.ts';
import { timeLaunches } from './launchTimer.ts';
import { cudaLinks } from './links.ts';
import { type OpenDevice, openDevice } from './open.ts';
import './ops/index.ts';
import { registerStockKernels } from './stock/index.ts';

/** @throws SLUICE_E_CUDA where there is no device */
export function registerCudaBackend(): void {
  if (tf.findBackendFactory(CUDA_BACKEND)) return;
  const opened = openDevice();
  const { device } = opened;
  registerStockKernels();
  tf.registerBackend(CUDA_BACKEND, () => openBackend(opened), 0);
  const tensor = (values: DeviceArray<'f32'>, shape: readonly number[]) =>
    tf.engine().makeTensorFromTensorInfo(cudaBackend().view(values, [...shape]));
  const floatsOf = (tensor: tf.Tensor) => cudaBackend().floatsOf(tensor);
  const precision = () => cudaBackend().precision;
  registerFlatMemory(CUDA_BACKEND, cudaFlatMemory(device, { tensor, floatsOf, precision }));
  registerDeviceLinks(CUDA_BACKEND, cudaLinks(device));
  registerDeviceMeter(CUDA_BACKEND, {
    get peakBytes() {
      return device.arena.statistics().peakUsedBytes;
    },
    timeLaunches: (onLaunch) => timeLaunches(device.driver, onLaunch),
    measurePeak: () => measureProductPeak(device, cudaBackend().precision),
  });
}

/** A backend whose fused operations have its device's memory. */
export function openBackend(opened: OpenDevice): CudaBackend {
  return new CudaBackend(opened, (backend) => new CudaFusedMemory(backend));
}
