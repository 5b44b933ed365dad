/** Threads of a block as fibers, each with a stack of its own, which are switched by hand. For `scheduler.cc` alone. */
#pragma once

#include <algorithm>

#include "machine.h"
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulator {

#if defined(__x86_64__)
extern "C" void emulatorSwitch(void** from, void* to);
// Registers that a function must keep, and the stack. The flags of floating point are never changed.
asm(R"(
  .text
  .p2align 4
emulatorSwitch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
struct Context {
  void* stackPointer = nullptr;
  void prepare(unsigned char* stack, void (*entry)()) {
    auto* top = reinterpret_cast<uint64_t*>(reinterpret_cast<uintptr_t>(stack + STACK_BYTES) & ~uintptr_t{63}) - 8;
    std::fill(top, top + 8, 0);
    // What `ret` finds below six registers; the stack is then aligned as after a call.
    top[6] = reinterpret_cast<uint64_t>(entry);
    stackPointer = top;
  }
};
inline void switchTo(Context& from, Context& to) { emulatorSwitch(&from.stackPointer, to.stackPointer); }
#else
struct Context {
  ucontext_t context;
  void prepare(unsigned char* stack, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = STACK_BYTES;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
  }
};
inline void switchTo(Context& from, Context& to) { swapcontext(&from.context, &to.context); }
#endif

}  // namespace emulator
