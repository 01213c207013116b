#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/shm_sys.h"
#include "statestore/testing/crash_explorer.h"

namespace holdfast::testing {
namespace {

constexpr size_t kMaxImages = 4096;

// Shared by the child, which cuts itself, and its parent, which waits. The
// memory stands first, then each image that differs from the one before.
struct Log {
  uint64_t instructions;
  uint64_t images;
};

uint8_t* memory_of_child = nullptr;
size_t memory_size = 0;
Log* log_of_child = nullptr;

uint8_t* ImageAt(uint64_t index) {
  return memory_of_child + (1 + index) * memory_size;
}

void Note() {
  if (log_of_child->images == kMaxImages) _exit(1);
  std::memcpy(ImageAt(log_of_child->images), memory_of_child, memory_size);
  ++log_of_child->images;
}

void Protect(int how) { mprotect(memory_of_child, memory_size, how); }

#if defined(__x86_64__)
constexpr greg_t kTrapFlag = 0x100;

// A store to the memory: lets it happen, and this instruction only.
void OnFault(int, siginfo_t* info, void* context) {
  const auto* address = static_cast<const uint8_t*>(info->si_addr);
  if (address < memory_of_child || address >= memory_of_child + memory_size) {
    _exit(2);
  }
  Protect(PROT_READ | PROT_WRITE);
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] |= kTrapFlag;
}

void OnTrap(int, siginfo_t*, void* context) {
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~kTrapFlag;
  Protect(PROT_READ);
  ++log_of_child->instructions;
  if (std::memcmp(ImageAt(log_of_child->images - 1), memory_of_child,
                  memory_size) != 0) {
    Note();
  }
}
#endif

[[noreturn]] void RunTrapped(Operation operation) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  Note();
#if defined(__x86_64__)
  struct sigaction action {};
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = OnTrap;
  sigaction(SIGTRAP, &action, nullptr);
  action.sa_sigaction = OnFault;
  sigaction(SIGSEGV, &action, nullptr);
  Protect(PROT_READ);
#endif
  operation({memory_of_child, memory_size});
  _exit(0);
}

}  // namespace

StepResult TrapThrough(absl::Span<const uint8_t> image, Operation operation,
                       ImageVisitor visit) {
  StepResult result;
  const size_t size = image.size() * (kMaxImages + 1) + sizeof(Log);
  void* const address = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    result.error = "no memory";
    return result;
  }
  const Mapping mapping(address, size);
  memory_of_child = mapping.data();
  memory_size = image.size();
  std::memcpy(memory_of_child, image.data(), image.size());
  log_of_child = reinterpret_cast<Log*>(ImageAt(kMaxImages));
  const pid_t child = fork();
  if (child == 0) RunTrapped(operation);
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
    result.error = absl::StrCat("the child ended with status ", status);
  }
  result.instructions = log_of_child->instructions;
  result.images = log_of_child->images;
  // `visit` may trap through another operation.
  for (uint64_t i = 0; i < result.images; ++i) {
    visit({mapping.data() + (1 + i) * image.size(), image.size()});
  }
  return result;
}

}  // namespace holdfast::testing
