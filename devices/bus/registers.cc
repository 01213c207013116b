#include "devices/bus/registers.h"

#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace holdfast {
namespace {

// Of any declaration, also of a wrong one.
uint64_t EndOf(const Register& reg) {
  const uint64_t last = std::min<uint64_t>(std::max<uint64_t>(reg.count(), 1),
                                           RegisterFile::kMaxElements) -
                        1;
  return reg.offset() + reg.stride() * last + reg.width();
}

bool IsName(absl::string_view name) {
  return !name.empty() && name.size() <= 40 &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
         });
}

// What is wrong with a register by itself; empty if nothing is.
std::string Fault(const Register& reg, uint32_t bar, uint64_t size) {
  if (!IsName(reg.name())) return "its name is not 1-40 of [a-z0-9_]";
  if (reg.bar() != bar)
    return absl::StrCat("it says that it is in BAR ", reg.bar());
  if (reg.offset() % reg.width() != 0) {
    return absl::StrCat("its offset is not a multiple of its ", reg.width(),
                        " bytes");
  }
  if (reg.count() == 0 || reg.count() > RegisterFile::kMaxElements) {
    return absl::StrCat("an array of ", reg.count(), ", limit is ",
                        RegisterFile::kMaxElements);
  }
  if (reg.count() > 1 &&
      (reg.stride() < reg.width() || reg.stride() % reg.width() != 0)) {
    return absl::StrCat("its stride ", reg.stride(),
                        " is not a multiple of its ", reg.width(), " bytes");
  }
  if (EndOf(reg) > size) {
    return absl::StrFormat("it ends at 0x%x, beyond the file's 0x%x bytes",
                           EndOf(reg), size);
  }
  if ((reg.reset() & ~reg.mask()) != 0) {
    return "its reset value is wider than it";
  }
  if (reg.write_only() && reg.reset() != 0) {
    return "it is write-only and has a reset value";
  }
  return "";
}

struct Place {
  uint64_t offset;
  const Register* reg;
};

// Every element, by offset.
std::vector<Place> Places(const std::vector<Register>& registers) {
  std::vector<Place> places;
  for (const Register& reg : registers) {
    for (uint32_t i = 0; i < reg.count(); ++i) {
      places.push_back({reg.offset() + uint64_t{i} * reg.stride(), &reg});
    }
  }
  std::sort(places.begin(), places.end(),
            [](const Place& a, const Place& b) { return a.offset < b.offset; });
  return places;
}

absl::Status CheckPlaces(const std::vector<Place>& places,
                         absl::string_view file, bool dense) {
  uint64_t end = 0;
  const Register* last = nullptr;
  for (const Place& place : places) {
    if (place.offset < end) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: registers %s and %s overlap at 0x%x", file,
                          last->name(), place.reg->name(), place.offset));
    }
    if (dense && place.offset > end) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: no register at 0x%x, before %s", file, end, place.reg->name()));
    }
    end = place.offset + place.reg->width();
    last = place.reg;
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t RegisterFile::size() const {
  if (size_ != 0) return size_;
  uint64_t end = 16;
  for (const Register& reg : registers_) end = std::max(end, EndOf(reg));
  uint64_t size = 16;
  while (size < end) size *= 2;
  return size;
}

absl::Status RegisterFile::Check(absl::string_view file, uint32_t bar) const {
  const uint64_t size = this->size();
  if (size > kMaxSize || (size & (size - 1)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: its size 0x%x is no power of two up to 0x%x", file,
                        size, kMaxSize));
  }
  std::set<absl::string_view> names;
  size_t elements = 0;
  for (const Register& reg : registers_) {
    const std::string fault = Fault(reg, bar, size);
    if (!fault.empty()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: register \"%s\" at 0x%x: %s", file, reg.name(),
                          reg.offset(), fault));
    }
    if (!names.insert(reg.name()).second) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: two registers are called \"%s\"", file, reg.name()));
    }
    elements += reg.count();
  }
  if (elements > kMaxElements) {
    return absl::InvalidArgumentError(absl::StrCat(
        file, ": ", elements, " registers, limit is ", kMaxElements));
  }
  return CheckPlaces(Places(registers_), file, dense_);
}

}  // namespace holdfast
