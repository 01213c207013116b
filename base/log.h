#ifndef HOLDFAST_BASE_LOG_H_
#define HOLDFAST_BASE_LOG_H_

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace holdfast {

enum class LogSeverity : char { kInfo = 'I', kWarning = 'W', kError = 'E' };

// Writes one line, "I <program>: <text>\n", to standard error with a single
// write(2), so that lines of several processes never mix. Text beyond 1,000
// bytes is cut. Control characters become '?', so that a hostile peer cannot
// forge lines. Thread-safe; allocates nothing.
void LogLine(LogSeverity severity, absl::string_view text);

// Sets the name that lines begin with; `name` must outlive the process. Call
// once, before threads start.
void SetLogProgram(const char* name);

template <typename... Args>
void LogInfo(const Args&... args) {
  LogLine(LogSeverity::kInfo, absl::StrCat(args...));
}
template <typename... Args>
void LogWarning(const Args&... args) {
  LogLine(LogSeverity::kWarning, absl::StrCat(args...));
}
template <typename... Args>
void LogError(const Args&... args) {
  LogLine(LogSeverity::kError, absl::StrCat(args...));
}

}  // namespace holdfast

#endif  // HOLDFAST_BASE_LOG_H_
