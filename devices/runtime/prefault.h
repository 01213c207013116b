#ifndef HOLDFAST_DEVICES_RUNTIME_PREFAULT_H_
#define HOLDFAST_DEVICES_RUNTIME_PREFAULT_H_

#include <cstddef>
#include <cstdint>

// A standby has never run the code that it needs at its promotion. Each page
// that it meets there for the first time costs a page fault (5 to 10 us on a
// nested machine), and there are dozens of them: these functions take them all
// while nobody waits.

namespace holdfast {

inline constexpr size_t kPrefaultPage = 4096;

// Code, constants and variables of the program. Before threads start.
void PrefaultProgram();

// The calling thread's stack, as deep as a request goes.
void PrefaultStack();

// `size` bytes at `memory`, which is writable and not in use by others. Not for
// AddressSanitizer, which poisons what lies between variables.
__attribute__((no_sanitize("address"))) inline void PrefaultWritable(
    void* memory, size_t size) {
  auto* bytes = static_cast<volatile uint8_t*>(memory);
  for (size_t i = 0; i < size; i += kPrefaultPage) bytes[i] = bytes[i];
  if (size > 0) bytes[size - 1] = bytes[size - 1];
}

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_PREFAULT_H_
