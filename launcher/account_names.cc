#include "launcher/account_names.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace holdfast::launcher {
namespace {

// The largest number means "no change" to chown.
bool ParseId(absl::string_view text, uint32_t& id) {
  return !text.empty() && text[0] >= '0' && text[0] <= '9' &&
         absl::SimpleAtoi(text, &id) && id != UINT32_MAX;
}

}  // namespace

std::optional<uint32_t> FindAccount(absl::string_view table,
                                    absl::string_view name) {
  uint32_t id = 0;
  if (ParseId(name, id)) return id;
  // name:password:number:...
  for (absl::string_view line : absl::StrSplit(table, '\n')) {
    const std::pair<absl::string_view, absl::string_view> head =
        absl::StrSplit(line, absl::MaxSplits(':', 1));
    if (name.empty() || head.first != name) continue;
    const std::vector<absl::string_view> fields =
        absl::StrSplit(head.second, ':');
    if (fields.size() >= 2 && ParseId(fields[1], id)) return id;
  }
  return std::nullopt;
}

}  // namespace holdfast::launcher
