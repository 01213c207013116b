#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/shm_sys.h"
#include "statestore/testing/crash_explorer.h"

namespace holdfast::testing {
namespace {

// Memory that a child shares, filled with a copy of `image`.
Mapping SharedCopy(absl::Span<const uint8_t> image) {
  void* address = mmap(nullptr, image.size(), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) return Mapping();
  Mapping mapping(address, image.size());
  std::memcpy(mapping.data(), image.data(), image.size());
  return mapping;
}

[[noreturn]] void RunTraced(Operation operation, absl::Span<uint8_t> memory) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(77);
  raise(SIGSTOP);
  operation(memory);
  _exit(0);
}

std::string WhyItEnded(int status) {
  if (WIFEXITED(status)) {
    if (WEXITSTATUS(status) == 0) return "";
    return absl::StrCat("the child exited with ", WEXITSTATUS(status));
  }
  if (WIFSIGNALED(status)) {
    return absl::StrCat("the child died of signal ", WTERMSIG(status));
  }
  return absl::StrCat("the child stopped with status ", status);
}

// Images are large and many, so only this is kept of them. No two of a
// million have the same but by a chance of 2^-88.
using Digest = std::pair<uint64_t, uint64_t>;

Digest DigestOf(absl::Span<const uint8_t> image) {
  uint64_t a = 0xcbf29ce484222325;
  uint64_t b = 0x9e3779b97f4a7c15;
  size_t i = 0;
  for (; i + sizeof(uint64_t) <= image.size(); i += sizeof(uint64_t)) {
    uint64_t word;
    std::memcpy(&word, image.data() + i, sizeof(word));
    a = (a ^ word) * 0x100000001b3;
    a ^= a >> 29;
    b = (b + word) * 0xbf58476d1ce4e5b9;
    b ^= b >> 31;
  }
  for (; i < image.size(); ++i) {
    a = (a ^ image[i]) * 0x100000001b3;
    b = (b + image[i]) * 0xbf58476d1ce4e5b9;
  }
  return {a, b};
}

class Explorer {
 public:
  Explorer(Operation recovery,
           absl::FunctionRef<std::string(absl::Span<uint8_t>)> check,
           Stepping stepping)
      : recovery_(recovery),
        check_(check),
        step_(stepping == Stepping::kTracer ? StepThrough : TrapThrough) {}

  void Cut(absl::Span<const uint8_t> image, Operation operation, int depth) {
    const StepResult result =
        step_(image, operation, [&](absl::Span<const uint8_t> left) {
          // Recovery is a function of the memory: once from each image, cut as
          // deep as ever asked for, is enough.
          int& explored = explored_[DigestOf(left)];
          if (explored >= depth) return;
          if (explored == 0) {
            ++report_.crash_states;
            RecoverAndCheck(left);
          }
          explored = depth;
          if (depth > 1) Cut(left, recovery_, depth - 1);
        });
    if (report_.error.empty()) report_.error = result.error;
  }

  CrashReport& report() { return report_; }

 private:
  void RecoverAndCheck(absl::Span<const uint8_t> left) {
    const Mapping memory = SharedCopy(left);
    recovery_(memory.span());
    ++report_.recoveries;
    const std::string violation = check_(memory.span());
    if (violation.empty()) return;
    ++report_.violations;
    if (report_.first_violation.empty()) report_.first_violation = violation;
  }

  Operation recovery_;
  absl::FunctionRef<std::string(absl::Span<uint8_t>)> check_;
  StepResult (*const step_)(absl::Span<const uint8_t>, Operation, ImageVisitor);
  CrashReport report_;
  std::map<Digest, int> explored_;  // Depth by content.
};

}  // namespace

StepResult StepThrough(absl::Span<const uint8_t> image, Operation operation,
                       ImageVisitor visit) {
  StepResult result;
  const Mapping memory = SharedCopy(image);
  if (!memory.valid()) {
    result.error = "no memory";
    return result;
  }
  std::vector<uint8_t> last(image.begin(), image.end());
  const pid_t child = fork();
  if (child == 0) RunTraced(operation, memory.span());
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) {
    result.error = "cannot trace a child";
    return result;
  }
  visit(last);
  result.images = 1;
  while (ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) == 0) {
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status) ||
        WSTOPSIG(status) != SIGTRAP) {
      break;
    }
    ++result.instructions;
    if (std::memcmp(last.data(), memory.data(), last.size()) == 0) continue;
    std::memcpy(last.data(), memory.data(), last.size());
    ++result.images;
    visit(last);
  }
  result.error = WhyItEnded(status);
  if (WIFSTOPPED(status)) {
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
  }
  return result;
}

CrashReport ExploreCrashes(
    absl::Span<const uint8_t> image, Operation operation, Operation recovery,
    absl::FunctionRef<std::string(absl::Span<uint8_t>)> check, int depth,
    Stepping stepping) {
  Explorer explorer(recovery, check, stepping);
  explorer.Cut(image, operation, depth);
  return explorer.report();
}

}  // namespace holdfast::testing
