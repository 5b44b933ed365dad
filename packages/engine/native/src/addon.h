// The bridge between JavaScript and the kernels: arguments out of N-API values, and the list of exported functions.
//
// A kernel file ends with one `SLUICE_EXPORT(name, function)` for each function that JavaScript may call. Arguments are
// positional: typed arrays and numbers. Every array is asked for with the length that the kernel will touch, so that a
// wrong call throws instead of reading beyond the end.

#pragma once

#include <node_api.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace sluice {

class Arguments {
 public:
  static constexpr size_t kMost = 32;

  Arguments(napi_env env, napi_callback_info info) : env_(env), count_(kMost) {
    napi_get_cb_info(env, info, &count_, values_, nullptr, nullptr);
  }

  napi_env env() const { return env_; }
  size_t count() const { return count_; }

  /// Data of a Float32Array with at least `length` elements.
  float* floats(size_t index, size_t length) const {
    return static_cast<float*>(array(index, napi_float32_array, length));
  }
  /// Like `floats`, or null where the argument is null or undefined.
  float* optionalFloats(size_t index, size_t length) const { return isNull(index) ? nullptr : floats(index, length); }
  double* doubles(size_t index, size_t length) const {
    return static_cast<double*>(array(index, napi_float64_array, length));
  }
  int32_t* integers(size_t index, size_t length) const {
    return static_cast<int32_t*>(array(index, napi_int32_array, length));
  }
  uint8_t* bytes(size_t index, size_t length) const {
    return static_cast<uint8_t*>(array(index, napi_uint8_array, length));
  }

  /// Data of a Uint16Array, the halves of floats.
  uint16_t* halves(size_t index, size_t length) const {
    return static_cast<uint16_t*>(array(index, napi_uint16_array, length));
  }

  double number(size_t index) const {
    double value = 0;
    if (index >= count_ || napi_get_value_double(env_, values_[index], &value) != napi_ok) fail(index, "a number");
    return value;
  }
  /// A whole number from 0 to 2^53.
  size_t size(size_t index) const {
    const double value = number(index);
    if (!(value >= 0) || value != static_cast<double>(static_cast<size_t>(value))) fail(index, "a whole number, not negative");
    return static_cast<size_t>(value);
  }
  bool boolean(size_t index) const {
    bool value = false;
    if (index >= count_ || napi_get_value_bool(env_, values_[index], &value) != napi_ok) fail(index, "true or false");
    return value;
  }
  /// Sets a property of an object that the caller passed, for results that are not numbers.
  void setProperty(size_t index, const char* name, napi_value value) const {
    if (index >= count_ || napi_set_named_property(env_, values_[index], name, value) != napi_ok) fail(index, "an object");
  }
  bool isNull(size_t index) const {
    if (index >= count_) return true;
    napi_valuetype type;
    napi_typeof(env_, values_[index], &type);
    return type == napi_null || type == napi_undefined;
  }

 private:
  void* array(size_t index, napi_typedarray_type wanted, size_t least) const {
    napi_typedarray_type type;
    size_t length = 0;
    void* data = nullptr;
    if (index >= count_ ||
        napi_get_typedarray_info(env_, values_[index], &type, &length, &data, nullptr, nullptr) != napi_ok || type != wanted) {
      fail(index, "a typed array of the right kind");
    }
    if (length < least) {
      throw std::runtime_error("argument " + std::to_string(index) + " has " + std::to_string(length) + " elements, but " +
                               std::to_string(least) + " are needed");
    }
    return data;
  }
  [[noreturn]] static void fail(size_t index, const char* wanted) {
    throw std::runtime_error("argument " + std::to_string(index) + " must be " + wanted);
  }

  napi_env env_;
  size_t count_;
  napi_value values_[kMost];
};

/// A kernel takes its arguments and returns a number, which JavaScript gets (0 where there is nothing to say).
using Kernel = double (*)(const Arguments&);

/// One exported function; instances link themselves into a list before the addon is loaded.
struct Export {
  Export(const char* exportName, Kernel exportKernel);
  const char* name;
  Kernel kernel;
  const Export* next;
};

#define SLUICE_EXPORT(name, function) static const ::sluice::Export exported_##name(#name, function)

}  // namespace sluice
