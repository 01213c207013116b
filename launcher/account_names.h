#ifndef HOLDFAST_LAUNCHER_ACCOUNT_NAMES_H_
#define HOLDFAST_LAUNCHER_ACCOUNT_NAMES_H_

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace holdfast::launcher {

// The number of `name` in the text of /etc/passwd or /etc/group: the first
// line that begins with it counts. A name that is a number is that number.
// Nothing: it is in no line. holdfastd is static and asks no other source of
// names; for those the spec takes numbers. Pure.
std::optional<uint32_t> FindAccount(absl::string_view table,
                                    absl::string_view name);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_ACCOUNT_NAMES_H_
