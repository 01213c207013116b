#ifndef HOLDFAST_LAUNCHER_PENDING_SPECS_H_
#define HOLDFAST_LAUNCHER_PENDING_SPECS_H_

#include <cstddef>
#include <deque>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "launcher/core_protocol.h"

namespace holdfast::launcher {

// The text specs of --spec-dir that no api has read yet, in order. A file stays
// until it is taken, however many apis die over it; but not for ever: over one
// that kills them all the others would never be read. Pure; not thread-safe.
class PendingSpecs {
 public:
  static constexpr size_t kMaxFiles = 128;
  static constexpr int kMaxHandOuts = 8;

  // An error, which starts with a word about the file and says what to do, for
  // one that is too large or too many.
  absl::Status Add(SpecFile file);
  bool empty() const { return files_.empty(); }
  // The first one; not when empty().
  const SpecFile& first() const { return files_.front(); }
  // The first one, counted; not when empty().
  const SpecFile& HandOut();
  // Whether the first one was handed out so often that nobody should get it
  // again.
  bool IsHopeless() const;
  // Takes it off the list, if it is the first one; whether it was.
  bool Take(absl::string_view name);

 private:
  std::deque<SpecFile> files_;
  int handed_out_ = 0;  // The first one.
};

// "FILE: MESSAGE" for an event, on one line of plain characters: the file may
// have any name, and `message` comes from the api, which the core does not
// trust. A message that starts with the file says it once.
std::string RefusalText(absl::string_view file, absl::string_view message);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_PENDING_SPECS_H_
