#ifndef HOLDFAST_STATESTORE_FORMAT_H_
#define HOLDFAST_STATESTORE_FORMAT_H_

// The bytes of a segment, format version 1. docs/state-format.md describes the
// same byte by byte; statestore/golden/ holds images that pin it. Whoever moves
// a byte here raises kFormatVersion and adds an image.
//
// All numbers are little-endian. Nothing in a segment is an address.

#include <cstddef>
#include <cstdint>

namespace holdfast {

#if defined(__BYTE_ORDER__)
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "segments are read and written in place, little-endian");
#endif

// "HOLDFAST" read as a little-endian number. Zero means: not formatted yet.
inline constexpr uint64_t kSegmentMagic = 0x54534146444c4f48;
inline constexpr uint32_t kFormatVersion = 1;

// Limits. Beyond each, FormatSegment and Segment::Attach say InvalidArgument.
//
// A child locks its whole segment, and RLIMIT_MEMLOCK is 8 MiB by default; the
// rest is for a device that was given more.
inline constexpr uint64_t kMaxSegmentSize = 64u << 20;
// Of the device name, without a final NUL: the store's names have 40 bytes.
inline constexpr size_t kMaxDeviceName = 39;
// The section table fits the header page with room to spare.
inline constexpr size_t kMaxQueues = 64;
inline constexpr size_t kMaxLanes = 64;
inline constexpr size_t kMaxSections = 160;
// VIRTIO 1.2, section 2.7: a split ring has at most 32768 descriptors.
inline constexpr size_t kMaxQueueSize = 32768;

inline constexpr size_t kPageSize = 4096;
// Sections start on a cache line of their own, lanes and bulk data on a page.
inline constexpr size_t kSectionAlignment = 64;

enum class SectionType : uint16_t {
  kSchema = 1,          // Names, types and offsets of the fields in kState.
  kState = 2,           // Two banks of device state: see transaction.h.
  kLane = 3,            // One per connection: see lane.h.
  kInflight = 4,        // One per queue: see inflight.h.
  kStamps = 5,          // kStampSize bytes per queue: progress, for watching.
  kStats = 6,           // Counters, kStatsSize bytes.
  kFlightRecorder = 7,  // The last requests.
  kCrashRecord = 8,     // What the dying child could say about its death.
  kSession = 9,         // Connection state of the device's protocol.
  kBulk = 10,           // Large internal state: see undo_log.h.
  kUndo = 11,           // The undo log of kBulk.
  kAreas = 12,          // What a device orders by itself, no transaction.
};
inline constexpr uint16_t kLastSectionType = 12;

inline constexpr size_t kStampSize = 64;  // One cache line per queue.
inline constexpr size_t kStatsSize = 4096;

// The start of the header page.
struct SegmentHeader {
  uint64_t magic;  // Written last, with release order.
  uint32_t format_version;
  uint32_t compat_version;  // Of the guest-visible behaviour.
  uint64_t segment_size;    // Bytes.
  uint64_t epoch;           // The only field that changes after formatting.
  uint16_t section_count;
  uint16_t queue_count;
  uint16_t max_queue_size;
  uint16_t lane_count;
  uint32_t check;  // CRC32C of the header page, with magic, epoch and this 0.
  uint32_t reserved;
  char device[kMaxDeviceName + 1];  // Filled up with NUL.
  uint8_t zero[40];
};
static_assert(offsetof(SegmentHeader, epoch) == 24);
static_assert(offsetof(SegmentHeader, section_count) == 32);
static_assert(offsetof(SegmentHeader, check) == 40);
static_assert(offsetof(SegmentHeader, device) == 48);
static_assert(sizeof(SegmentHeader) == 128);

// The section table follows the header: section_count entries, ascending by
// (type, index) and by offset, without overlap.
struct SectionEntry {
  uint16_t type;   // A SectionType.
  uint16_t index;  // Counts sections of one type from 0.
  uint32_t reserved;
  uint64_t offset;  // From the start of the segment, bytes.
  uint64_t size;    // Bytes; never 0.
};
static_assert(sizeof(SectionEntry) == 24);
static_assert(sizeof(SegmentHeader) + kMaxSections * sizeof(SectionEntry) <=
              kPageSize);

// The start of section kState. Bank 0 follows it, then bank 1.
struct StateHeader {
  uint64_t commit_word;  // See CommitWord.
  uint32_t fields_size;  // Bytes of fields in a bank, a multiple of 8.
  uint16_t queue_count;  // Completion records in a bank.
  uint16_t reserved;
  uint32_t check;  // CRC32C of the bytes from fields_size to here.
  uint8_t zero[44];
};
static_assert(sizeof(StateHeader) == 64);

// What the state of a queue's device contains: the effects of the request
// `counter` (the counter of its in-flight entry; 0 = none yet) are in this
// bank, so it must be completed, not executed again.
struct CompletionRecord {
  uint64_t counter;
  uint32_t head;     // First descriptor of its chain.
  uint32_t written;  // Bytes for the used ring.
};
static_assert(sizeof(CompletionRecord) == 16);

// The start of a bank; queue_count completion records and the fields follow.
// A bank takes a multiple of kSectionAlignment.
struct BankHeader {
  uint32_t stripes[4];  // Striped CRC32C of the bank from `sequence` on.
  uint64_t sequence;    // Commits since the segment was formatted.
};
static_assert(sizeof(BankHeader) == 24);
// The checked bytes come in whole words.
static_assert((sizeof(BankHeader) - offsetof(BankHeader, sequence)) % 8 == 0);

// Each commit copies and checks the whole bank, about 50 ns per KiB. More state
// than this belongs into bulk data under an undo log.
inline constexpr uint32_t kMaxFieldsSize = 16384;

// The 8 bytes that say which bank is the truth. One compare-and-swap of this
// word is the commit.
struct CommitWord {
  uint32_t epoch;     // Bits 63 to 32: of the incarnation that committed.
  uint32_t bank;      // Bit 31.
  uint32_t sequence;  // Bits 30 to 0: of the bank's sequence, the low ones.

  static constexpr uint32_t kSequenceMask = 0x7fffffff;
  static constexpr CommitWord Unpack(uint64_t word) {
    return {static_cast<uint32_t>(word >> 32),
            static_cast<uint32_t>(word >> 31) & 1,
            static_cast<uint32_t>(word) & kSequenceMask};
  }
  constexpr uint64_t Pack() const {
    return static_cast<uint64_t>(epoch) << 32 |
           static_cast<uint64_t>(bank & 1) << 31 | (sequence & kSequenceMask);
  }
};

// Bytes of one bank, and of the whole section kState.
constexpr size_t CheckedBankSize(uint32_t fields_size, uint16_t queues) {
  return sizeof(BankHeader) + queues * sizeof(CompletionRecord) + fields_size;
}
constexpr size_t BankStride(uint32_t fields_size, uint16_t queues) {
  return (CheckedBankSize(fields_size, queues) + kSectionAlignment - 1) /
         kSectionAlignment * kSectionAlignment;
}
constexpr size_t StateSectionSize(uint32_t fields_size, uint16_t queues) {
  return sizeof(StateHeader) + 2 * BankStride(fields_size, queues);
}

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_FORMAT_H_
