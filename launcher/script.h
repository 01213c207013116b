#ifndef HOLDFAST_LAUNCHER_SCRIPT_H_
#define HOLDFAST_LAUNCHER_SCRIPT_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace holdfast::launcher {

// The words before the script's own path when a file that begins with `head` is
// executed: the interpreter, and what follows it on the first line as one word.
// None: it is no script. Pure; execve(2), "Interpreter scripts". A kernel that
// is given a descriptor instead of a path cannot do this itself: the descriptor
// is closed when the interpreter wants to open it.
std::vector<std::string> InterpreterOf(absl::string_view head);

// As many bytes as the kernel looks at.
inline constexpr size_t kScriptHead = 256;

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_SCRIPT_H_
