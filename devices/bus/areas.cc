#include "devices/bus/areas.h"

#include <set>

#include "absl/strings/str_cat.h"

namespace holdfast {
namespace {

constexpr uint32_t kAlignment = 64;  // A cache line.

}  // namespace

absl::Status Areas::Check(absl::string_view who) const {
  std::set<absl::string_view> names;
  for (const AreaSpec& area : all_) {
    if (area.name.empty() || !names.insert(area.name).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          who, ": area \"", area.name, "\" needs a name of its own"));
    }
    if (area.size == 0 || area.size % kAlignment != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(who, ": area ", area.name, ": ", area.size,
                       " bytes are no multiple of ", kAlignment));
    }
    if (area.offset + area.size > kMaxSize) {
      return absl::InvalidArgumentError(absl::StrCat(who, ": area ", area.name,
                                                     ": more than ", kMaxSize,
                                                     " bytes of areas"));
    }
  }
  return absl::OkStatus();
}

absl::Status Areas::CheckMemory(absl::string_view who,
                                absl::Span<const uint8_t> given) const {
  const bool aligned =
      reinterpret_cast<uintptr_t>(given.data()) % kAlignment == 0;
  if (given.size() == end_ && (given.empty() || aligned)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(who, ": areas: ", given.size(),
                                                 " bytes given, ", end_,
                                                 " wanted, or misaligned"));
}

absl::Span<uint8_t> Areas::Find(absl::string_view name,
                                absl::Span<uint8_t> memory) const {
  for (const AreaSpec& area : all_) {
    if (area.name == name && memory.size() >= area.offset + area.size) {
      return memory.subspan(area.offset, area.size);
    }
  }
  return {};
}

}  // namespace holdfast
