#include "launcher/exit_cause.h"

#include <csignal>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace holdfast::launcher {
namespace {

// Children end so when they have caught the signal of their own fault, to note
// which request it was: devices/runtime/crash_handler_sys.h.
constexpr int kCaughtBase = 128;

bool IsFault(int signal) {
  return signal == SIGSEGV || signal == SIGBUS || signal == SIGILL ||
         signal == SIGFPE || signal == SIGABRT;
}

}  // namespace

std::string ExitCause(int status) {
  const int signal = status & 0x7f;
  if (signal == 0) {
    const int code = (status >> 8) & 0xff;
    if (IsFault(code - kCaughtBase)) return ExitCause(code - kCaughtBase);
    return absl::StrCat("exit status ", code);
  }
  if (signal == SIGSYS) return "sandbox violation (SIGSYS)";
  const char* name = sigabbrev_np(signal);
  const std::string text = name == nullptr ? absl::StrCat("signal ", signal)
                                           : absl::StrCat("SIG", name);
  return (status & 0x80) != 0 ? text + " (core dumped)" : text;
}

bool IsOwnFault(absl::string_view cause) {
  if (absl::StartsWith(cause, "exit status ")) return cause != "exit status 0";
  for (const char* signal : {"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT",
                             "SIGTRAP", "sandbox violation"}) {
    if (absl::StartsWith(cause, signal)) return true;
  }
  return false;
}

}  // namespace holdfast::launcher
