#ifndef HOLDFAST_BASE_TEXT_FILE_SYS_H_
#define HOLDFAST_BASE_TEXT_FILE_SYS_H_

#include <string>

namespace holdfast {

// All of a short file such as those of /proc; empty if it cannot be read. For
// files whose absence says the same as their being empty.
std::string ReadTextFile(const std::string& path);

}  // namespace holdfast

#endif  // HOLDFAST_BASE_TEXT_FILE_SYS_H_
