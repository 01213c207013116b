// Any bytes as what a program prints of its capabilities: a type has letters,
// digits and dashes only, and stands in the profile as it is.
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "base/testing/fuzz_input.h"
#include "devices/keeper/probe/findings.h"

using ::holdfast::testing::Require;
namespace keeper = ::holdfast::keeper;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  keeper::Findings findings;
  findings.type = keeper::TypeIn(text);
  for (const char c : findings.type) {
    Require(('a' <= c && c <= 'z') || ('0' <= c && c <= '9') || c == '-');
  }
  findings.program = std::string(text);
  findings.taken = keeper::CandidatesFor({findings.program})[0];
  // Each line is a comment, a field, or a message's end.
  const std::string profile = keeper::ProfileText(findings);
  size_t quotes = 0;
  for (const char c : profile) {
    Require(c == '\n' || (c >= ' ' && c < 0x7f));
    quotes += c == '"' ? 1 : 0;
  }
  Require(quotes % 2 == 0);
  return 0;
}
