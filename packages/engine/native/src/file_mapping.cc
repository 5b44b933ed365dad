// Files in the address space, for memory that the processes of one machine share.

#include "addon.h"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>

namespace sluice {

static void unmap(napi_env, void* data, void* bytes) { munmap(data, reinterpret_cast<size_t>(bytes)); }

/// mapFile(descriptor, bytes, writable, holder): holder.buffer becomes an ArrayBuffer over the start of the file, until
/// it is collected. The descriptor may be closed. 1 when it worked.
static double mapFile(const Arguments& args) {
  const int descriptor = static_cast<int>(args.size(0));
  const size_t bytes = args.size(1);
  const int protection = args.boolean(2) ? PROT_READ | PROT_WRITE : PROT_READ;
  void* data = mmap(nullptr, bytes, protection, MAP_SHARED, descriptor, 0);
  if (data == MAP_FAILED) return 0;
  napi_value buffer;
  if (napi_create_external_arraybuffer(args.env(), data, bytes, unmap, reinterpret_cast<void*>(bytes), &buffer) != napi_ok) {
    munmap(data, bytes);
    return 0;
  }
  args.setProperty(3, "buffer", buffer);
  return 1;
}
SLUICE_EXPORT(mapFile, mapFile);

}  // namespace sluice
#endif
