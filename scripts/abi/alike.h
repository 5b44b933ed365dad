/** Whether functions that are declared in two ways are called in the same way, by the calling conventions of 64-bit systems. */
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>
#include <type_traits>

/** Of what is handed over as a pointer, the other side knows that it is one: koffi puts memory of JavaScript's there. */
template <typename Declared, typename Actual>
constexpr bool passesAlike = sizeof(Declared) == sizeof(Actual) && std::is_class_v<Declared> == std::is_class_v<Actual> &&
                             std::is_floating_point_v<Declared> == std::is_floating_point_v<Actual> &&
                             (!std::is_pointer_v<Declared> || std::is_pointer_v<Actual>);

template <typename Declared, typename Actual>
struct IsCalledAlike : std::false_type {};
template <typename R, typename... A, typename S, typename... B>
struct IsCalledAlike<R(A...), S(B...)> {
  static constexpr bool of() {
    if constexpr (sizeof...(A) != sizeof...(B)) return false;
    else return passesAlike<R, S> && (passesAlike<A, B> && ...);
  }
  static constexpr bool value = of();
};
