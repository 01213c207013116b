#ifndef HOLDFAST_LAUNCHER_STATUS_FIELD_H_
#define HOLDFAST_LAUNCHER_STATUS_FIELD_H_

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace holdfast::launcher {

// The same error, said of the field of a spec or the option that caused it.
inline absl::Status WithField(absl::string_view field,
                              const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat(field, ": ", status.message()));
}

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_STATUS_FIELD_H_
