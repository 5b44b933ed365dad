#include "addon.h"

#include "parallel.h"
#include "simd.h"

namespace sluice {

static const Export* firstExport = nullptr;

Export::Export(const char* exportName, Kernel exportKernel) : name(exportName), kernel(exportKernel), next(firstExport) {
  firstExport = this;
}

static napi_value callKernel(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  const auto* entry = static_cast<const Export*>(data);
  try {
    const double result = entry->kernel(Arguments(env, info));
    napi_value value;
    napi_create_double(env, result, &value);
    return value;
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, (std::string("native kernel ") + entry->name + ": " + error.what()).c_str());
    return nullptr;
  }
}

static double setThreads(const Arguments& args) {
  setThreadCount(static_cast<int>(args.size(0)));
  return 0;
}
static double threads(const Arguments&) { return threadCount(); }
static double vectorWidth(const Arguments&) { return kWidth; }
static double hasFusedMultiplyAdd(const Arguments&) { return kFused; }

SLUICE_EXPORT(setThreads, setThreads);
SLUICE_EXPORT(threads, threads);
SLUICE_EXPORT(vectorWidth, vectorWidth);
SLUICE_EXPORT(hasFusedMultiplyAdd, hasFusedMultiplyAdd);

NAPI_MODULE_INIT() {
  for (const Export* entry = firstExport; entry != nullptr; entry = entry->next) {
    napi_value function;
    napi_create_function(env, entry->name, NAPI_AUTO_LENGTH, callKernel, const_cast<Export*>(entry), &function);
    napi_set_named_property(env, exports, entry->name, function);
  }
  return exports;
}

}  // namespace sluice
