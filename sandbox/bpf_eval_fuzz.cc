// Any bytes are a program: the evaluator ends, and inside its memory.

#include <cstdint>
#include <cstring>
#include <vector>

#include "sandbox/bpf_eval.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  holdfast::sandbox::SyscallRecord record;
  if (size < sizeof(record)) return 0;
  std::memcpy(&record, data, sizeof(record));
  std::vector<sock_filter> program((size - sizeof(record)) /
                                   sizeof(sock_filter));
  if (!program.empty()) {
    std::memcpy(program.data(), data + sizeof(record),
                program.size() * sizeof(sock_filter));
  }
  const bool good = holdfast::sandbox::CheckFilter(program).ok();
  const auto value = holdfast::sandbox::RunFilter(program, record);
  if (value.ok() != good) __builtin_trap();
  if (value.ok()) holdfast::sandbox::VerdictOf(*value);
  return 0;
}
