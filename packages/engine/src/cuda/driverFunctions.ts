/**
 * The driver's functions that are called, by the names that its library exports, with what these take. Later headers give some of their names
 * to newer functions (`cuMemAlloc` is `cuMemAlloc_v2`); `npm run test:abi` holds each against what its own name stands for.
 */

import type { LibraryHandle } from 'koffi';

/** Of a library what is needed to declare functions: C's types of what they give and take, as koffi has them. */
export type Declares = Pick<LibraryHandle, 'func'>;

/** Functions that return a result. */
function definer(library: Declares) {
  return (name: string, ...parameters: string[]) =>
    library.func(name, 'int', parameters) as (...args: unknown[]) => number;
}

/** What drivers of any age have. */
export function versionFunction(library: Declares) {
  return definer(library)('cuDriverGetVersion', 'void *');
}

/** Those that tell of devices, of which none has to be opened. */
export function deviceFunctions(library: Declares) {
  const define = definer(library);
  return {
    cuInit: define('cuInit', 'uint'),
    cuDriverGetVersion: versionFunction(library),
    cuDeviceGetCount: define('cuDeviceGetCount', 'void *'),
    cuDeviceGet: define('cuDeviceGet', 'void *', 'int'),
    cuDeviceGetName: define('cuDeviceGetName', 'void *', 'int', 'int'),
    /** Of a part of a GPU (MIG) that of the whole. */
    cuDeviceGetUuid: define('cuDeviceGetUuid', 'void *', 'int'),
    cuDeviceGetOwnUuid: define('cuDeviceGetUuid_v2', 'void *', 'int'),
    cuDeviceGetAttribute: define('cuDeviceGetAttribute', 'void *', 'int', 'int'),
    cuDeviceTotalMem: define('cuDeviceTotalMem_v2', 'void *', 'int'),
  };
}

/** What only the emulator has. */
export function watchOf(library: Declares) {
  const define = definer(library);
  try {
    return {
      take: define('emulatorTake', 'uint64_t', 'size_t', 'uintptr_t'),
      give: define('emulatorGive', 'uint64_t', 'uintptr_t'),
    };
  } catch {
    return undefined;
  }
}

/** What only drivers of CUDA 12.4 or later have. */
export function parameterFunctions(library: Declares) {
  const define = definer(library);
  try {
    return { cuFuncGetParamInfo: define('cuFuncGetParamInfo', 'uintptr_t', 'size_t', 'void *', 'void *') };
  } catch {
    return undefined;
  }
}

export function driverFunctions(library: Declares) {
  const define = definer(library);
  return {
    ...deviceFunctions(library),
    cuDevicePrimaryCtxRetain: define('cuDevicePrimaryCtxRetain', 'void *', 'int'),
    cuCtxSetCurrent: define('cuCtxSetCurrent', 'uintptr_t'),
    cuStreamCreate: define('cuStreamCreate', 'void *', 'uint'),
    cuStreamSynchronize: define('cuStreamSynchronize', 'uintptr_t'),
    cuStreamWaitEvent: define('cuStreamWaitEvent', 'uintptr_t', 'uintptr_t', 'uint'),
    cuModuleLoadData: define('cuModuleLoadData', 'void *', 'void *'),
    cuModuleGetFunction: define('cuModuleGetFunction', 'void *', 'uintptr_t', 'str'),
    cuFuncSetAttribute: define('cuFuncSetAttribute', 'uintptr_t', 'int', 'int'),
    cuMemAlloc: define('cuMemAlloc_v2', 'void *', 'size_t'),
    cuMemFree: define('cuMemFree_v2', 'uint64_t'),
    cuMemHostAlloc: define('cuMemHostAlloc', 'void *', 'size_t', 'uint'),
    cuMemFreeHost: define('cuMemFreeHost', 'uint64_t'),
    cuMemGetInfo: define('cuMemGetInfo_v2', 'void *', 'void *'),
    cuMemGetAllocationGranularity: define('cuMemGetAllocationGranularity', 'void *', 'void *', 'int'),
    cuMemAddressReserve: define(
      'cuMemAddressReserve',
      ...['void *', 'size_t', 'size_t', 'uint64_t', 'uint64_t'],
    ),
    cuMemAddressFree: define('cuMemAddressFree', 'uint64_t', 'size_t'),
    cuMemCreate: define('cuMemCreate', 'void *', 'size_t', 'void *', 'uint64_t'),
    cuMemRelease: define('cuMemRelease', 'uint64_t'),
    cuMemMap: define('cuMemMap', 'uint64_t', 'size_t', 'size_t', 'uint64_t', 'uint64_t'),
    cuMemUnmap: define('cuMemUnmap', 'uint64_t', 'size_t'),
    cuMemSetAccess: define('cuMemSetAccess', 'uint64_t', 'size_t', 'void *', 'size_t'),
    cuEventCreate: define('cuEventCreate', 'void *', 'uint'),
    cuEventDestroy: define('cuEventDestroy_v2', 'uintptr_t'),
    cuEventRecord: define('cuEventRecord', 'uintptr_t', 'uintptr_t'),
    cuEventSynchronize: define('cuEventSynchronize', 'uintptr_t'),
    cuEventQuery: define('cuEventQuery', 'uintptr_t'),
    cuEventElapsedTime: define('cuEventElapsedTime', 'void *', 'uintptr_t', 'uintptr_t'),
    cuMemcpyHtoDAsync: define('cuMemcpyHtoDAsync_v2', 'uint64_t', 'void *', 'size_t', 'uintptr_t'),
    cuMemcpyDtoHAsync: define('cuMemcpyDtoHAsync_v2', 'void *', 'uint64_t', 'size_t', 'uintptr_t'),
    cuMemcpyAsync: define('cuMemcpyAsync', 'uint64_t', 'uint64_t', 'size_t', 'uintptr_t'),
    cuMemsetD16Async: define('cuMemsetD16Async', 'uint64_t', 'uint16_t', 'size_t', 'uintptr_t'),
    cuMemsetD32Async: define('cuMemsetD32Async', 'uint64_t', 'uint32_t', 'size_t', 'uintptr_t'),
    cuLaunchKernel: define(
      'cuLaunchKernel',
      ...['uintptr_t', 'uint', 'uint', 'uint', 'uint', 'uint', 'uint', 'uint', 'uintptr_t'],
      ...['uintptr_t', 'uintptr_t'],
    ),
    cuTensorMapEncodeTiled: define(
      'cuTensorMapEncodeTiled',
      ...['uintptr_t', 'int', 'uint32_t', 'uint64_t', 'void *', 'void *', 'void *', 'void *'],
      ...['int', 'int', 'int', 'int'],
    ),
    cuGetErrorName: define('cuGetErrorName', 'int', '_Out_ const char **'),
    cuGetErrorString: define('cuGetErrorString', 'int', '_Out_ const char **'),
  };
}

export type DriverFunctions = ReturnType<typeof driverFunctions>;
/** Those that return a result, of which 0 is success. */
export type DriverCall = Exclude<keyof DriverFunctions, 'cuGetErrorName' | 'cuGetErrorString'>;
