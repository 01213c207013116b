// Any text is a profile that its rules accept, or an error that starts with the
// file; and what a profile makes of a command line never takes a word away.

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/match.h"
#include "base/testing/fuzz_input.h"
#include "launcher/cli/profile.h"

namespace {

using ::holdfast::testing::Require;

// Words that shipped profiles look for.
holdfast::cli::Wrapping Example() {
  holdfast::cli::Wrapping wrapping;
  wrapping.name = "disk0";
  wrapping.socket_path = "/run/disk0.sock";
  wrapping.keeper = "/lib/holdfast-keeper";
  wrapping.policy_directory = "/lib/policies";
  wrapping.program = "/bin/daemon";
  wrapping.args = {"--blockdev", "driver=file,filename=/srv/a,locking=off",
                   "--export", "type=vhost-user-blk,id=e"};
  return wrapping;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto profile = holdfast::cli::ParseProfile(text, "file");
  if (!profile.ok()) {
    Require(absl::StartsWith(profile.status().message(), "file:"));
    return 0;
  }
  const holdfast::cli::Wrapping wrapping = Example();
  const auto spec = holdfast::cli::WrappedSpec(*profile, wrapping);
  if (!spec.ok()) {
    Require(!spec.status().message().empty());
    return 0;
  }
  Require(spec->name() == wrapping.name);
  Require(spec->backend().binary() == wrapping.program);
  const auto& args = spec->backend().args();
  Require(args.size() >= static_cast<int>(wrapping.args.size()));
  for (size_t i = 0; i < wrapping.args.size(); ++i) {
    Require(absl::StartsWith(args.Get(static_cast<int>(i)), wrapping.args[i]));
  }
  return 0;
}
