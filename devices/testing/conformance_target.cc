#include "devices/testing/conformance_target.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"

namespace holdfast::testing {
namespace {

using Buffer = FrontEnd::Buffer;

constexpr uint32_t kMostBytes = 1 << 16;

absl::StatusOr<Buffer> ParseBuffer(absl::string_view part) {
  absl::string_view rest = part;
  uint32_t size;
  if (absl::ConsumePrefix(&rest, "in:") && absl::SimpleAtoi(rest, &size) &&
      size > 0 && size <= kMostBytes) {
    return Buffer::Writable(size);
  }
  if (absl::ConsumePrefix(&rest, "out:") && !rest.empty() &&
      rest.size() % 2 == 0) {
    bool hex = true;
    for (char c : rest) hex = hex && absl::ascii_isxdigit(c);
    const std::string bytes = absl::HexStringToBytes(rest);
    if (hex) return Buffer::Readable({bytes.begin(), bytes.end()});
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--request: '", part, "' is neither out:HEX nor in:1 to in:65536"));
}

absl::Status ParseResource(absl::string_view text, ConformanceTarget& target) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  uint64_t size;
  if (parts.size() != 2 || parts[0].empty() ||
      !absl::SimpleAtoi(parts[1], &size)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--resource: '", text, "' is not NAME:BYTES"));
  }
  target.resources[parts[0]] = size;
  return absl::OkStatus();
}

absl::Status ParseOne(absl::string_view argument, ConformanceTarget& target) {
  const std::pair<absl::string_view, absl::string_view> option =
      absl::StrSplit(argument, absl::MaxSplits('=', 1));
  const auto& [name, value] = option;
  const std::map<absl::string_view, std::string*> texts = {
      {"--program", &target.program},
      {"--golden", &target.golden},
      {"--policy", &target.policy},
      {"--store-program", &target.store_program}};
  if (const auto it = texts.find(name); it != texts.end()) {
    *it->second = std::string(value);
  } else if (name == "--argument") {
    target.arguments.emplace_back(value);
  } else if (name == "--policy-include") {
    target.policy_includes.emplace_back(value);
  } else if (name == "--resource") {
    return ParseResource(value, target);
  } else if (name == "--varies") {
    target.repeatable = false;
  } else if (name == "--request") {
    ASSIGN_OR_RETURN(target.request, ParseRequest(value));
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("unknown argument '", argument, "'"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Buffer>> ParseRequest(absl::string_view text) {
  std::vector<Buffer> buffers;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    ASSIGN_OR_RETURN(Buffer buffer, ParseBuffer(part));
    buffers.push_back(std::move(buffer));
  }
  return buffers;
}

absl::StatusOr<ConformanceTarget> ParseTarget(
    const std::vector<std::string>& arguments) {
  ConformanceTarget target;
  for (const std::string& argument : arguments) {
    RETURN_IF_ERROR(ParseOne(argument, target));
  }
  if (target.program.empty() || target.request.empty()) {
    return absl::InvalidArgumentError("--program and --request are needed");
  }
  return target;
}

}  // namespace holdfast::testing
