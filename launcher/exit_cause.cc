#include "launcher/exit_cause.h"

#include <csignal>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace holdfast::launcher {

std::string ExitCause(int status) {
  const int signal = status & 0x7f;
  if (signal == 0) return absl::StrCat("exit status ", (status >> 8) & 0xff);
  if (signal == SIGSYS) return "sandbox violation (SIGSYS)";
  const char* name = sigabbrev_np(signal);
  const std::string text = name == nullptr ? absl::StrCat("signal ", signal)
                                           : absl::StrCat("SIG", name);
  return (status & 0x80) != 0 ? text + " (core dumped)" : text;
}

}  // namespace holdfast::launcher
