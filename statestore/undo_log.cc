#include "statestore/undo_log.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/crc32c.h"
#include "base/shared_access.h"
#include "base/status_macros.h"
#include "statestore/shared_word.h"

namespace holdfast {
namespace {

// Stands behind the old bytes, so that a walk from the end finds it.
struct Entry {
  uint32_t offset;
  uint32_t length;
  uint32_t check;
  uint32_t reserved;
};
static_assert(sizeof(Entry) + 8 == UndoEntrySize(1));

constexpr size_t kEntriesOffset = sizeof(uint64_t);

// The word in front of the entries; storing it arms them.
struct LogWord {
  uint32_t sequence;
  uint32_t used;  // Bytes of valid entries.

  static LogWord Unpack(uint64_t word) {
    return {static_cast<uint32_t>(word >> 32), static_cast<uint32_t>(word)};
  }
  uint64_t Pack() const { return uint64_t{sequence} << 32 | used; }
};

uint32_t CheckOf(const Entry& entry, uint32_t sequence,
                 absl::Span<const uint8_t> old_bytes) {
  const uint32_t head[] = {entry.offset, entry.length, sequence};
  const uint32_t crc =
      Crc32c({reinterpret_cast<const uint8_t*>(head), sizeof(head)});
  return Crc32cExtend(crc, old_bytes);
}

// Calls `visit(entry, old bytes, bytes of the log before the entry)` for the
// valid entries of an armed log, newest first. DataLoss at the first that
// breaks a rule.
template <typename Visit>
absl::Status ForEachEntry(absl::Span<const uint8_t> log, size_t bulk_size,
                          LogWord word, Visit visit) {
  const auto error = [](absl::string_view what) {
    return absl::DataLossError(absl::StrCat("undo log: ", what));
  };
  if (word.used > log.size() - kEntriesOffset || word.used % 8 != 0) {
    return error("longer than its section");
  }
  absl::Span<const uint8_t> rest = log.subspan(kEntriesOffset, word.used);
  while (!rest.empty()) {
    Entry entry;
    if (rest.size() < sizeof(entry)) return error("truncated entry");
    SharedAccess::Copy(&entry, rest.end() - sizeof(entry), sizeof(entry));
    if (entry.length == 0 || entry.length > bulk_size ||
        entry.offset > bulk_size - entry.length || entry.reserved != 0) {
      return error("entry outside the bulk section");
    }
    const size_t size = UndoEntrySize(entry.length);
    if (size > rest.size()) return error("truncated old bytes");
    rest.remove_suffix(size);
    const absl::Span<const uint8_t> old_bytes(rest.end(), entry.length);
    if (entry.check != CheckOf(entry, word.sequence, old_bytes)) {
      return error("checksum of an entry differs");
    }
    visit(entry, old_bytes, rest.size());
  }
  return absl::OkStatus();
}

bool IsUsable(absl::Span<const uint8_t> log) {
  return log.size() >= kEntriesOffset &&
         reinterpret_cast<uintptr_t>(log.data()) % sizeof(uint64_t) == 0;
}

// The log word if the log is armed for `sequence`; used is 0 otherwise.
LogWord ArmedWord(absl::Span<const uint8_t> log, uint64_t sequence) {
  LogWord word = LogWord::Unpack(LoadWord(log.data()));
  if (word.sequence != static_cast<uint32_t>(sequence)) {
    word = {static_cast<uint32_t>(sequence), 0};
  }
  return word;
}

}  // namespace

absl::StatusOr<UndoState> InspectUndoLog(absl::Span<const uint8_t> log,
                                         size_t bulk_size, uint64_t sequence) {
  UndoState state;
  if (!IsUsable(log)) return absl::DataLossError("undo log: misplaced");
  const LogWord word = ArmedWord(log, sequence);
  state.armed = word.used != 0;
  RETURN_IF_ERROR(
      ForEachEntry(log, bulk_size, word, [&](const Entry& entry, auto&&...) {
        ++state.entries;
        state.bytes += entry.length;
      }));
  return state;
}

absl::StatusOr<UndoLog> UndoLog::Attach(absl::Span<uint8_t> log,
                                        absl::Span<uint8_t> bulk) {
  if (!IsUsable(log) || log.size() < kEntriesOffset + UndoEntrySize(1)) {
    return absl::InvalidArgumentError("undo log: misaligned or too small");
  }
  return UndoLog(log, bulk);
}

absl::Status UndoLog::RollBack(uint64_t sequence) {
  LogWord word = ArmedWord(log_, sequence);
  // All or nothing: look at every entry before the first is applied.
  RETURN_IF_ERROR(ForEachEntry(log_, bulk_.size(), word, [](auto&&...) {}));
  // Newest first, since a later entry may hold what an earlier write put
  // there. Each is cut off only when it is applied.
  return ForEachEntry(log_, bulk_.size(), word,
                      [&](const Entry& entry,
                          absl::Span<const uint8_t> old_bytes, size_t rest) {
                        std::memcpy(bulk_.data() + entry.offset,
                                    old_bytes.data(), entry.length);
                        word.used = static_cast<uint32_t>(rest);
                        StoreWord(log_.data(), word.Pack());
                      });
}

absl::Status UndoLog::Write(uint64_t sequence, size_t offset,
                            absl::Span<const uint8_t> bytes) {
  if (bytes.empty()) return absl::OkStatus();
  if (offset > bulk_.size() || bytes.size() > bulk_.size() - offset) {
    return absl::OutOfRangeError(absl::StrCat("bulk write of ", bytes.size(),
                                              " bytes at ", offset, " of ",
                                              bulk_.size()));
  }
  LogWord word = ArmedWord(log_, sequence);
  const size_t size = UndoEntrySize(bytes.size());
  const size_t room = log_.size() - kEntriesOffset;
  if (word.used > room || size > room - word.used) {
    return absl::ResourceExhaustedError(
        absl::StrCat("undo log: ", size, " bytes needed, ", room, " in all"));
  }
  uint8_t* const at = log_.data() + kEntriesOffset + word.used;
  const absl::Span<const uint8_t> old_bytes =
      bulk_.subspan(offset, bytes.size());
  Entry entry{static_cast<uint32_t>(offset),
              static_cast<uint32_t>(bytes.size()), 0, 0};
  entry.check = CheckOf(entry, word.sequence, old_bytes);
  std::memcpy(at, old_bytes.data(), old_bytes.size());
  std::memset(at + bytes.size(), 0, size - sizeof(entry) - bytes.size());
  std::memcpy(at + size - sizeof(entry), &entry, sizeof(entry));
  word.used += static_cast<uint32_t>(size);
  StoreWord(log_.data(), word.Pack());
  std::memcpy(bulk_.data() + offset, bytes.data(), bytes.size());
  return absl::OkStatus();
}

}  // namespace holdfast
