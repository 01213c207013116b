#include "base/log.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace holdfast {
namespace {

constexpr size_t kMaxText = 1000;
const char* g_program = "holdfast";

}  // namespace

void SetLogProgram(const char* name) { g_program = name; }

void LogLine(LogSeverity severity, absl::string_view text) {
  char line[kMaxText + 100];
  char* p = line;
  *p++ = static_cast<char>(severity);
  *p++ = ' ';
  const size_t name_size = std::min<size_t>(std::strlen(g_program), 64);
  std::memcpy(p, g_program, name_size);
  p += name_size;
  *p++ = ':';
  *p++ = ' ';
  for (char c : text.substr(0, kMaxText)) {
    *p++ = (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) ? '?' : c;
  }
  *p++ = '\n';
  // Nothing sensible can be done when standard error is gone.
  (void)!write(STDERR_FILENO, line, p - line);
}

}  // namespace holdfast
