/**
 * What of NVIDIA's C interfaces a C compiler would take from their headers: numbers, and where the members of structs lie, by the names that
 * they have there. `npm run test:abi` holds them against the headers.
 */

/** Of `cuda.h`. */
export const CUDA = {
  // CUresult
  CUDA_ERROR_INVALID_VALUE: 1,
  CUDA_ERROR_OUT_OF_MEMORY: 2,
  CUDA_ERROR_NO_DEVICE: 100,
  CUDA_ERROR_INVALID_IMAGE: 200,
  CUDA_ERROR_NO_BINARY_FOR_GPU: 209,
  CUDA_ERROR_ECC_UNCORRECTABLE: 214,
  CUDA_ERROR_INVALID_PTX: 218,
  CUDA_ERROR_NVLINK_UNCORRECTABLE: 220,
  CUDA_ERROR_UNSUPPORTED_PTX_VERSION: 222,
  CUDA_ERROR_INVALID_SOURCE: 300,
  CUDA_ERROR_NOT_READY: 600,
  CUDA_ERROR_ILLEGAL_ADDRESS: 700,
  CUDA_ERROR_LAUNCH_TIMEOUT: 702,
  CUDA_ERROR_HARDWARE_STACK_ERROR: 714,
  CUDA_ERROR_ILLEGAL_INSTRUCTION: 715,
  CUDA_ERROR_MISALIGNED_ADDRESS: 716,
  CUDA_ERROR_INVALID_ADDRESS_SPACE: 717,
  CUDA_ERROR_INVALID_PC: 718,
  CUDA_ERROR_LAUNCH_FAILED: 719,
  CUDA_ERROR_UNKNOWN: 999,
  // CUdevice_attribute
  CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: 16,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: 75,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: 76,
  CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: 97,
  CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES: 100,
  CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED: 102,
  // CUfunction_attribute
  CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: 8,
  /** A stream that does not wait for the one that is nobody's. */
  CU_STREAM_NON_BLOCKING: 1,
  /** An event that notes no time. */
  CU_EVENT_DISABLE_TIMING: 2,
  /** Memory of the host that kernels reach. */
  CU_MEMHOSTALLOC_DEVICEMAP: 2,
  // Memory of a device, of which it reads and writes what is mapped.
  CU_MEM_ALLOCATION_TYPE_PINNED: 1,
  CU_MEM_LOCATION_TYPE_DEVICE: 1,
  CU_MEM_ACCESS_FLAGS_PROT_READWRITE: 3,
  CU_MEM_ALLOC_GRANULARITY_MINIMUM: 0,
  // Tensor maps
  CU_TENSOR_MAP_DATA_TYPE_FLOAT32: 7,
  CU_TENSOR_MAP_DATA_TYPE_BFLOAT16: 9,
  CU_TENSOR_MAP_INTERLEAVE_NONE: 0,
  CU_TENSOR_MAP_SWIZZLE_128B: 3,
  CU_TENSOR_MAP_L2_PROMOTION_L2_256B: 3,
  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE: 0,
} as const;

/** Of `nvrtc.h`. */
export const NVRTC = { NVRTC_SUCCESS: 0, NVRTC_ERROR_INVALID_OPTION: 5 } as const;

/** Of `nccl.h`. */
export const NCCL = {
  ncclSuccess: 0,
  ncclInProgress: 7,
  /** What is sent is bytes. */
  ncclInt8: 0,
  NCCL_UNIQUE_ID_BYTES: 128,
  NCCL_API_MAGIC: 0xcafebeef,
  /** What is left open. */
  NCCL_CONFIG_UNDEF_INT: -(2 ** 31),
} as const;

/** A struct's size, where all of it is meant, and where those of its members begin that are whole numbers of four bytes, or of eight. */
interface Layout {
  readonly bytes?: number;
  readonly members: Readonly<Record<string, number>>;
}

export const LAYOUTS = {
  CUmemAllocationProp: { bytes: 32, members: { type: 0, 'location.type': 8, 'location.id': 12 } },
  CUmemAccessDesc: { bytes: 12, members: { 'location.type': 0, 'location.id': 4, flags: 8 } },
  CUuuid: { bytes: 16, members: {} },
  CUtensorMap: { bytes: 128, members: {} },
  ncclUniqueId: { bytes: NCCL.NCCL_UNIQUE_ID_BYTES, members: {} },
  /** As version 2.14 had it, and all later ones begin. */
  ncclConfig_t: { members: { size: 0, magic: 8, version: 12, blocking: 16, cgaClusterSize: 20 } },
} as const satisfies Readonly<Record<string, Layout>>;

type Sized = 'CUmemAllocationProp' | 'CUmemAccessDesc';

/** A struct with these members, each of four bytes, and zeros beside. */
export function structOf<N extends Sized>(
  name: N,
  members: Readonly<Record<keyof (typeof LAYOUTS)[N]['members'], number>>,
): Int32Array {
  const { bytes, members: places } = LAYOUTS[name];
  const words = new Int32Array(new ArrayBuffer(bytes));
  for (const [member, place] of Object.entries(places))
    words[place / 4] = members[member as keyof typeof members];
  return words;
}
