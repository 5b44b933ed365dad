// The memory of other processes of this machine, read where it lies.

#include "addon.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

namespace sluice {

/// addressOf(bytes): where a Uint8Array lies in this process.
static double addressOf(const Arguments& args) {
  return static_cast<double>(reinterpret_cast<uintptr_t>(args.bytes(0, 0)));
}

/// readProcess(process, address, bytes, length): copies that many bytes from there. 1 when all of them came.
static double readProcess(const Arguments& args) {
  const pid_t process = static_cast<pid_t>(args.size(0));
  uintptr_t address = args.size(1);
  const size_t length = args.size(3);
  uint8_t* target = args.bytes(2, length);
  for (size_t done = 0; done < length;) {
    const iovec local{target + done, length - done};
    const iovec remote{reinterpret_cast<void*>(address + done), length - done};
    const ssize_t count = process_vm_readv(process, &local, 1, &remote, 1, 0);
    if (count <= 0) return 0;
    done += static_cast<size_t>(count);
  }
  return 1;
}

/// letRead(process): where the system lets processes read only their descendants, this one may be read by that one and all
/// of its.
static double letRead(const Arguments& args) {
#if defined(PR_SET_PTRACER)
  prctl(PR_SET_PTRACER, static_cast<unsigned long>(args.size(0)), 0, 0, 0);
#else
  (void)args;
#endif
  return 0;
}

/// adviseHuge(floats, length): asks for huge pages under an array that nothing was written to yet.
static double adviseHuge(const Arguments& args) {
#if defined(MADV_HUGEPAGE)
  const size_t length = args.size(1);
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(args.floats(0, length)) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(args.floats(0, length)) + 4 * length) / page * page;
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)args;
#endif
  return 0;
}

SLUICE_EXPORT(addressOf, addressOf);
SLUICE_EXPORT(readProcess, readProcess);
SLUICE_EXPORT(letRead, letRead);
SLUICE_EXPORT(adviseHuge, adviseHuge);

}  // namespace sluice
#endif
