#ifndef HOLDFAST_SANDBOX_DESCRIPTORS_SYS_H_
#define HOLDFAST_SANDBOX_DESCRIPTORS_SYS_H_

#include <cstddef>

// Steps of the child between clone3 and execveat: async-signal-safe, no
// allocation.

namespace holdfast::sandbox {

// One row of the table that the program is to find.
struct FdMove {
  int from;  // Changed by the call.
  int to;
};

// Makes the descriptor table of the program: every descriptor becomes
// close-on-exec, then `moves` are put under their numbers, in any order and
// with any overlap. `internal` descriptors of the child, which the program
// must not see, are moved out of the way and updated. `end` is above every
// number of `moves`. Returns 0 or an errno value.
int PlaceDescriptors(FdMove* moves, size_t count, int* const* internal,
                     size_t internal_count, int end);

}  // namespace holdfast::sandbox

#endif  // HOLDFAST_SANDBOX_DESCRIPTORS_SYS_H_
