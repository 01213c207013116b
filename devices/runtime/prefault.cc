#include "devices/runtime/prefault.h"

// Of the linker. Arrays, since what follows belongs to them.
extern "C" {
extern char __executable_start[];
extern char etext[];
extern char __data_start[];
extern char end[];
}

namespace holdfast {
namespace {

constexpr size_t kStackDepth = 64 * 1024;

// Not for AddressSanitizer: between variables lies what it has poisoned.
__attribute__((no_sanitize("address"))) void ReadPages(
    const volatile char* from, const volatile char* to) {
  for (; from < to; from += kPrefaultPage) (void)*from;
}

}  // namespace

void PrefaultProgram() {
  ReadPages(__executable_start, etext);
  PrefaultWritable(__data_start, static_cast<size_t>(end - __data_start));
}

void PrefaultStack() {
  char depth[kStackDepth];
  PrefaultWritable(depth, sizeof(depth));
}

}  // namespace holdfast
