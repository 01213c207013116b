#ifndef HOLDFAST_LAUNCHER_API_TEXT_FORM_H_
#define HOLDFAST_LAUNCHER_API_TEXT_FORM_H_

#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace holdfast::launcher {

// Reads the text form of a message that people write. Errors, one a line, name
// `file`, line and column and end with `schema`, where the fields are:
//   disk0.textproto:3:7: ... has no field named "binry".: see protos/a.proto
// `places`, unless null, then knows where each field stands. Pure; `text` may
// be anything.
absl::Status ParseTextForm(
    absl::string_view text, const std::string& file, absl::string_view schema,
    google::protobuf::Message& message,
    google::protobuf::TextFormat::ParseInfoTree* places = nullptr);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_API_TEXT_FORM_H_
