#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <map>
#include <string>
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

class Explorer {
 public:
  Explorer(Operation recovery,
           absl::FunctionRef<std::string(absl::Span<uint8_t>)> check)
      : recovery_(recovery), check_(check) {}

  void Cut(absl::Span<const uint8_t> image, Operation operation, int depth) {
    const StepResult result =
        StepThrough(image, operation, [&](absl::Span<const uint8_t> left) {
          // Recovery is a function of the memory: once from each image, cut as
          // deep as ever asked for, is enough.
          int& explored = explored_[std::string(left.begin(), left.end())];
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
  CrashReport report_;
  std::map<std::string, int> explored_;  // Depth by content.
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
    absl::FunctionRef<std::string(absl::Span<uint8_t>)> check, int depth) {
  Explorer explorer(recovery, check);
  explorer.Cut(image, operation, depth);
  return explorer.report();
}

}  // namespace holdfast::testing
