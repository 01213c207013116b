#ifndef HOLDFAST_LAUNCHER_API_SPEC_TEXT_H_
#define HOLDFAST_LAUNCHER_API_SPEC_TEXT_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "protos/launch_spec.pb.h"

namespace holdfast::launcher {

// Far above what a spec of the largest size needs as text.
inline constexpr size_t kMaxSpecFile = 1 << 20;

// The text form of v1.LaunchSpec, checked by ValidateSpec(). Errors, one a
// line, name file, line and field and say what to do:
//   disk0.textproto:4: resources[0].path: 'a.img' is not absolute: give ...
// `file` is only named. Pure; `text` may be anything.
absl::StatusOr<v1::LaunchSpec> ParseSpecText(absl::string_view text,
                                             const std::string& file);

// An error of the core about the spec in `text`, such as "resources[0]: ...",
// with the place of the field: "disk0.textproto:4: resources[0]: ...". As it is
// when it does not begin with a field that stands there.
std::string WithPlace(absl::string_view message, absl::string_view text,
                      const std::string& file);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_API_SPEC_TEXT_H_
