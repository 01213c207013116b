#ifndef HOLDFAST_STATESTORE_LANE_FORMAT_H_
#define HOLDFAST_STATESTORE_LANE_FORMAT_H_

// The bytes of a lane's journal: docs/lane-format.md describes them one by one.
// Host byte order (a segment never leaves its machine); no pointer in it is
// ever followed, those inside an entry are rewritten before each system call.

#include <cstddef>
#include <cstdint>

namespace holdfast {

inline constexpr uint64_t kLaneMagic = 0x31656e614c664821;  // "!HfLane1"
inline constexpr uint32_t kLaneVersion = 2;
// Consumed every message before executing it. A lane of that version is served
// that way until its connection ends.
inline constexpr uint32_t kLaneVersionConsuming = 1;

// Entries of a set: so many system calls until the set is folded. Few, because
// all of them are read to learn how much was moved.
inline constexpr size_t kLaneEntries = 4;

// An entry that no system call has filled in. Not 0, which means that the peer
// has closed.
inline constexpr uint32_t kLaneArmed = 0xffffffff;

// Largest message and reply: what the commit word can count.
inline constexpr uint32_t kLaneMaxBytes = (1u << 27) - 1;

// Executed bytes that may be left in the socket at a commit.
inline constexpr uint32_t kLaneMaxUnread = 4096;

inline constexpr size_t kLaneAlignment = 64;
inline constexpr size_t kLanePage = 4096;

// struct mmsghdr, whose last word the kernel itself writes: how many bytes the
// call moved.
struct LaneEntry {
  uint8_t header[56];
  uint32_t length;
  uint32_t reserved;
};

// struct iovec.
struct LaneVector {
  uint64_t address;
  uint64_t size;
};

// Reception of one message. Its entries count what left the socket, first what
// the record calls unread, then bytes of the message.
struct LaneRxSet {
  LaneEntry entries[kLaneEntries];
  LaneVector vector;
  uint32_t attempts;  // Executions of this message that have begun.
  uint32_t admitted;  // Not 0: the message's size; its descriptors are in
                      // escrow, so its bytes may be consumed unseen.
  uint32_t fd_count;  // Descriptors in escrow.
  uint32_t reserved;
  uint64_t witness;  // Peek offset << 32 | bytes consumed before; 0: none.
  uint8_t padding[24];
};

// Transmission of one reply.
struct LaneTxSet {
  LaneEntry entries[kLaneEntries];
  LaneVector vector;
  uint8_t padding[48];
};

// What a commit makes true together with its bank.
struct LaneRecord {
  uint64_t sequence;    // Requests committed on this connection.
  uint32_t reply_size;  // Of the reply in the reply buffer.
  uint32_t flags;       // kLaneReplyHasFds, kLaneStriped, PackUnread
  uint32_t crc;         // Of the three fields above and the bank: LaneSum.
  uint8_t padding[44];
};
inline constexpr uint32_t kLaneReplyHasFds = 1;
inline constexpr uint32_t kLaneStriped = 2;  // How it is summed; see LaneSum.

// Bytes at the head of the socket's queue, at this commit, that belong to
// executed messages: what comes behind them is the next message. In the flags
// since version 2.
constexpr uint32_t PackUnread(size_t bytes) {
  return static_cast<uint32_t>(bytes) << 8;
}
constexpr size_t UnreadOf(const LaneRecord& record) {
  return record.flags >> 8;
}

struct LaneHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t bank_size;
  uint32_t max_message;
  uint32_t max_reply;
  uint64_t section_size;
  uint32_t crc;  // CRC32C of the fields above.
  uint8_t padding[28];
  // The only word that says what is true. A cache line of its own.
  uint64_t commit;
  uint8_t commit_padding[56];
  LaneRecord records[2];
  LaneRxSet rx[2];
  LaneTxSet tx[2];
};
static_assert(sizeof(LaneEntry) == 64 && offsetof(LaneEntry, length) == 56);
static_assert(sizeof(LaneVector) == 16);
static_assert(sizeof(LaneRxSet) == 320 && offsetof(LaneRxSet, witness) == 288);
static_assert(sizeof(LaneTxSet) == 320);
static_assert(sizeof(LaneRecord) == 64 && offsetof(LaneRecord, crc) == 16);
static_assert(offsetof(LaneHeader, crc) == 32);
static_assert(offsetof(LaneHeader, commit) == 64);
static_assert(offsetof(LaneHeader, records) == 128);
static_assert(offsetof(LaneHeader, rx) == 256);
static_assert(offsetof(LaneHeader, tx) == 896);
static_assert(sizeof(LaneHeader) == 1536, "a new layout needs a new version");

// The commit word, taken apart.
struct LaneWord {
  bool replying = false;  // Else receiving.
  uint32_t bank = 0;      // Index of the committed bank and record.
  uint32_t rx = 0;        // Index of the receiving set in use.
  uint32_t tx = 0;        // Index of the sending set in use.
  uint32_t folded = 0;    // Bytes moved by sets used before: received when
                          // receiving, of the reply when replying.
  uint32_t epoch = 0;     // Of the incarnation that owns the lane.
};

// Bit 31 is always set: a commit word of 0 is a lane that was never formatted.
constexpr uint64_t PackLaneWord(const LaneWord& word) {
  return uint64_t{word.epoch} << 32 | uint64_t{1} << 31 |
         uint64_t{word.folded} << 4 | uint64_t{word.tx} << 3 |
         uint64_t{word.rx} << 2 | uint64_t{word.bank} << 1 |
         uint64_t{word.replying};
}

constexpr LaneWord UnpackLaneWord(uint64_t bits) {
  LaneWord word;
  word.replying = (bits & 1) != 0;
  word.bank = bits >> 1 & 1;
  word.rx = bits >> 2 & 1;
  word.tx = bits >> 3 & 1;
  word.folded = bits >> 4 & kLaneMaxBytes;
  word.epoch = static_cast<uint32_t>(bits >> 32);
  return word;
}

// Where the variable parts lie, from the beginning of the section.
struct LaneLayout {
  size_t bank[2];
  size_t message;
  size_t reply;
  size_t total;
};

constexpr LaneLayout LayOutLane(uint32_t bank_size, uint32_t max_message,
                                uint32_t max_reply) {
  constexpr auto kRound = [](size_t n, size_t to) {
    return (n + to - 1) / to * to;
  };
  LaneLayout at{};
  at.bank[0] = sizeof(LaneHeader);
  at.bank[1] = at.bank[0] + kRound(bank_size, kLaneAlignment);
  at.message = at.bank[1] + kRound(bank_size, kLaneAlignment);
  at.reply = at.message + kRound(max_message, kLaneAlignment);
  at.total = kRound(at.reply + max_reply, kLanePage);
  return at;
}

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_LANE_FORMAT_H_
