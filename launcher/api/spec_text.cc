#include "launcher/api/spec_text.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "launcher/api/text_form.h"
#include "launcher/api/translate.h"
#include "launcher/spec.h"

namespace holdfast::launcher {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::TextFormat;

// "resources[2]": its name and index; -1: without one.
std::pair<std::string, int> SplitIndex(absl::string_view part) {
  const size_t bracket = part.find('[');
  int index = -1;
  if (bracket == absl::string_view::npos ||
      !absl::SimpleAtoi(part.substr(bracket + 1, part.size() - bracket - 2),
                        &index)) {
    return {std::string(part), -1};
  }
  return {std::string(part.substr(0, bracket)), index};
}

// Some fields say their unit in the text form only.
const FieldDescriptor* FindField(const Descriptor& type,
                                 const std::string& name) {
  for (const char* unit : {"", "_ms", "_bytes"}) {
    const FieldDescriptor* const field = type.FindFieldByName(name + unit);
    if (field != nullptr) return field;
  }
  return nullptr;
}

// The line of the field that a message of ValidateSpec() starts with, or of
// the innermost one around it that stands in the text; 0: none.
int LineOf(absl::string_view path, const TextFormat::ParseInfoTree& root) {
  const TextFormat::ParseInfoTree* tree = &root;
  const Descriptor* type = v1::LaunchSpec::descriptor();
  int line = 0;
  for (absl::string_view part : absl::StrSplit(path, '.')) {
    const auto [name, index] = SplitIndex(part);
    const FieldDescriptor* const field = FindField(*type, name);
    if (field == nullptr || field->is_repeated() != (index >= 0)) break;
    const TextFormat::ParseLocation place = tree->GetLocation(field, index);
    if (place.line < 0) break;
    line = place.line + 1;
    if (field->message_type() == nullptr) break;
    tree = tree->GetTreeForNested(field, index);
    type = field->message_type();
    if (tree == nullptr) break;
  }
  return line;
}

absl::Status Parse(absl::string_view text, const std::string& file,
                   v1::LaunchSpec& proto, TextFormat::ParseInfoTree& places) {
  return ParseTextForm(text, file, "protos/launch_spec.proto", proto, &places);
}

}  // namespace

absl::StatusOr<v1::LaunchSpec> ParseSpecText(absl::string_view text,
                                             const std::string& file) {
  if (text.size() > kMaxSpecFile) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": has ", text.size(), " bytes: a spec has at most ",
                     kMaxSpecFile));
  }
  TextFormat::ParseInfoTree places;
  v1::LaunchSpec proto;
  RETURN_IF_ERROR(Parse(text, file, proto, places));
  const absl::StatusOr<LaunchSpec> spec = FromProto(proto);
  const absl::Status status = spec.ok() ? ValidateSpec(*spec) : spec.status();
  if (status.ok()) return proto;
  const absl::string_view message = status.message();
  const int line = LineOf(message.substr(0, message.find(": ")), places);
  return absl::InvalidArgumentError(
      line == 0 ? absl::StrCat(file, ": ", message)
                : absl::StrCat(file, ":", line, ": ", message));
}

std::string WithPlace(absl::string_view message, absl::string_view text,
                      const std::string& file) {
  TextFormat::ParseInfoTree places;
  v1::LaunchSpec proto;
  const int line = Parse(text, file, proto, places).ok()
                       ? LineOf(message.substr(0, message.find(": ")), places)
                       : 0;
  return line == 0 ? std::string(message)
                   : absl::StrCat(file, ":", line, ": ", message);
}

}  // namespace holdfast::launcher
