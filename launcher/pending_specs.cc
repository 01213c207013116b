#include "launcher/pending_specs.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace holdfast::launcher {
namespace {

std::string Plain(absl::string_view text) {
  std::string plain = absl::StrReplaceAll(text, {{"\n", "; "}});
  for (char& c : plain) {
    if (c < ' ' || c > '~') c = '?';
  }
  return plain;
}

}  // namespace

absl::Status PendingSpecs::Add(SpecFile file) {
  if (file.text.size() > kMaxSpecText) {
    return absl::InvalidArgumentError(absl::StrCat(
        "has more than ", kMaxSpecText, " bytes: a spec is far shorter"));
  }
  if (files_.size() >= kMaxFiles) {
    return absl::ResourceExhaustedError(
        absl::StrCat("is not read: only ", kMaxFiles,
                     " files are: put fewer into the directory"));
  }
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

const SpecFile& PendingSpecs::HandOut() {
  ++handed_out_;
  return files_.front();
}

bool PendingSpecs::IsHopeless() const {
  return !files_.empty() && handed_out_ >= kMaxHandOuts;
}

bool PendingSpecs::Take(absl::string_view name) {
  if (files_.empty() || files_.front().name != name) return false;
  files_.pop_front();
  handed_out_ = 0;
  return true;
}

std::string RefusalText(absl::string_view file, absl::string_view message) {
  if (absl::StartsWith(message, absl::StrCat(file, ":"))) return Plain(message);
  return Plain(absl::StrCat(file, ": ", message));
}

}  // namespace holdfast::launcher
