#ifndef HOLDFAST_STATESTORE_TESTING_CRASH_EXPLORER_H_
#define HOLDFAST_STATESTORE_TESTING_CRASH_EXPLORER_H_

// Kills an operation on shared memory after every single instruction that
// changes it, and asks whether what is left can be recovered; then kills the
// recovery the same way.
//
// The operation runs as compiled, in a child that is single-stepped with
// ptrace. The memory after k instructions is exactly what SIGKILL at that
// instant leaves, since a store of a retired instruction is never lost and one
// of a later instruction never happens. Linux on x86-64; not under sanitizers.

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"

namespace holdfast::testing {

// What an operation is run on: page-aligned shared memory.
using Operation = absl::FunctionRef<void(absl::Span<uint8_t> memory)>;
using ImageVisitor = absl::FunctionRef<void(absl::Span<const uint8_t> image)>;

struct StepResult {
  uint64_t instructions = 0;  // Executed by the child.
  uint64_t images = 0;        // Distinct successive ones, the first included.
  std::string error;          // Empty if the operation ran to its end.
};

// Runs `operation` on a copy of `image` in a forked child, and calls `visit`
// in this process with the image before the first instruction and after every
// instruction that changed it. The last call sees what the whole operation
// leaves.
StepResult StepThrough(absl::Span<const uint8_t> image, Operation operation,
                       ImageVisitor visit);

// The same, many times faster: the memory is protected, and only instructions
// that store to it are stepped; `instructions` counts those. The operation
// leaves SIGTRAP and SIGSEGV alone, lets no system call write to the memory,
// changes it at most 4,000 times, and is visited after it has ended.
StepResult TrapThrough(absl::Span<const uint8_t> image, Operation operation,
                       ImageVisitor visit);

struct CrashReport {
  uint64_t crash_states = 0;  // Distinct images a kill left, at all depths.
  uint64_t recoveries = 0;    // Run to their end and checked.
  uint64_t violations = 0;
  std::string first_violation;
  std::string error;  // A child died by itself, or ptrace is not allowed.
};

// How the instants of a kill are found; each has the other's limits above.
enum class Stepping { kTracer, kTraps };

// Cuts `operation`, started on `image`, after every store. On what is left runs
// `recovery` to its end, then `check`, which returns what is wrong or "". With
// `depth` 2 the recovery of every crash state is itself cut after every store
// and recovered again, with 3 that one too. `recovery` and `check` must depend
// on nothing but the memory.
CrashReport ExploreCrashes(
    absl::Span<const uint8_t> image, Operation operation, Operation recovery,
    absl::FunctionRef<std::string(absl::Span<uint8_t> recovered)> check,
    int depth = 1, Stepping stepping = Stepping::kTracer);

}  // namespace holdfast::testing

#endif  // HOLDFAST_STATESTORE_TESTING_CRASH_EXPLORER_H_
