#ifndef HOLDFAST_DEVICES_VFIO_USER_SESSION_STATE_H_
#define HOLDFAST_DEVICES_VFIO_USER_SESSION_STATE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "devices/vfio_user/migration.h"
#include "statestore/store/protocol.h"

namespace holdfast::vfio_user {

// What a vfio-user connection has agreed on: everything that a successor needs
// in order to go on. SessionState lies in a bank of the connection's lane, so
// it survives the process. The windows, which may be many, lie beside it in the
// segment: a bit in the bank says whether an entry counts, and only entries
// that do not count are written, so bank and table change in one commit. The
// layout is durable, therefore fixed, and every change needs a new
// kSessionStateVersion. All zeros: nothing was said yet.
//
// Descriptors are named by their slot in the store, of the session range; 0 is
// none.

inline constexpr uint16_t kSessionStateVersion = 3;
// The oldest that is read: version 1 knew of nothing to do after a message, and
// version 2 of no second socket. The next message makes it a state of today.
inline constexpr uint16_t kOldestSessionStateVersion = 1;

// Windows at a time. Behind an IOMMU each page that a driver maps is one; a
// client is told the number and keeps to it (max_dma_maps).
inline constexpr size_t kMaxWindows = 2048;
// Interrupt vectors of all kinds together. More would not find slots.
inline constexpr size_t kMaxVectors = 96;

// Where the ends of a second socket are kept: ours as long as the connection,
// the client's until it has it (reply_region is kReplyTwin).
inline constexpr store::Slot kTwinSlot = store::kSlotEndSession - 1;
inline constexpr store::Slot kTwinClientSlot = store::kSlotEndSession - 2;
// In SessionState::reply_region: no region, there are fewer.
inline constexpr uint8_t kReplyTwin = 0xff;

// Tells files apart: device and inode, and how it was opened. Equal for two
// descriptors: either serves.
struct FileId {
  uint64_t device;
  uint64_t inode;
  uint64_t access;
};
inline bool operator==(const FileId& a, const FileId& b) {
  return a.device == b.device && a.inode == b.inode && a.access == b.access;
}

// One range of the client's memory.
struct WindowState {
  uint64_t address;
  uint64_t size;     // Bytes, never 0.
  uint64_t offset;   // Of the range's first byte in the file.
  FileId file;       // Zeros when there is none.
  store::Slot slot;  // Several windows may share one. 0: only by message.
  uint16_t access;   // kDmaReadable, kDmaWriteable.
  uint32_t crc;      // CRC32C of the fields above.
};
static_assert(sizeof(WindowState) == 56);
static_assert(std::has_unique_object_representations_v<WindowState>);

struct VectorState {
  store::Slot trigger;  // Signalled when the device interrupts.
  store::Slot mask;     // Signalled when it is masked by the device.
  store::Slot unmask;   // Read: the client lets it through again.
  uint8_t masked;       // By the client.
  uint8_t reserved;
};
static_assert(sizeof(VectorState) == 8);

struct SessionState {
  uint16_t version;    // kSessionStateVersion, or 0 as long as all is zero.
  uint8_t negotiated;  // VERSION was answered.
  uint8_t lost;        // The next message begins nobody knows where.
  uint16_t minor;
  uint16_t unused_ask;
  uint32_t max_message_fds;  // That the client receives at once.
  uint32_t max_transfer;     // Bytes of data in a message, either way.
  uint64_t accesses;         // Names given to accesses on this connection.
  uint8_t twin_socket;       // Our requests go by kTwinSlot.
  // The reply brings the memory of region reply_region - 1, or kReplyTwin; 0:
  // no descriptor.
  uint8_t reply_region;
  uint8_t migration_state;  // MigrationState ^ kMigrationRunning: 0 is running.
  uint8_t logging;          // Writes to memory are noted.
  // What the message before asks for once it is committed (Afterwards): a
  // successor that finds its reply unsent does it again.
  uint8_t after_kind;  // Afterwards::Kind.
  uint8_t after_irq;
  uint8_t after_start;
  uint8_t after_count;
  uint64_t log_page_size;
  uint64_t migrated;  // Bytes of the data stream that have been moved.
  // Meant for requests of ours, which have a journal of their own
  // (ask_journal.h): they go out between messages, which alone change a bank.
  uint64_t unused_asks[8];
  uint64_t windows[kMaxWindows / 64];  // Bits: the entries that count.
  VectorState vectors[kMaxVectors];    // By kind of interrupt, then vector.
};
static_assert(std::is_trivially_copyable_v<SessionState>);
static_assert(std::has_unique_object_representations_v<SessionState>);
static_assert(offsetof(SessionState, accesses) == 16);
static_assert(offsetof(SessionState, unused_asks) == 48);
static_assert(offsetof(SessionState, windows) == 112);
static_assert(offsetof(SessionState, vectors) == 368);
static_assert(sizeof(SessionState) == 1136, "bump kSessionStateVersion");

// The windows beside the bank: kMaxWindows entries.
using ConstWindowTable = absl::Span<const WindowState>;

inline bool HasWindow(const SessionState& state, size_t i) {
  return (state.windows[i / 64] >> (i % 64) & 1) != 0;
}

inline constexpr uint8_t kMigrationRunning =
    static_cast<uint8_t>(MigrationState::kRunning);
inline MigrationState MigrationOf(const SessionState& state) {
  return static_cast<MigrationState>(state.migration_state ^ kMigrationRunning);
}

// How many windows there are.
size_t WindowCount(const SessionState& state);

// Calls `visit(index, window)` for every window, until it returns false.
template <typename Visit>
void ForEachWindow(const SessionState& state, ConstWindowTable table,
                   Visit visit) {
  for (size_t word = 0; word < kMaxWindows / 64; ++word) {
    for (uint64_t bits = state.windows[word]; bits != 0; bits &= bits - 1) {
      const size_t i = word * 64 + static_cast<size_t>(__builtin_ctzll(bits));
      if (!visit(i, table[i])) return;
    }
  }
}

// How far a message has come whose accesses are several: a device knows only
// its last one again. Lies beside the windows; written while the message is
// decided, so that a successor goes on behind what is done.
struct AccessProgress {
  uint64_t first;  // Name of the message's first access.
  uint64_t done;   // So many of its accesses, if it is that message.
};
static_assert(sizeof(AccessProgress) == 16);

// All that a session keeps outside of the lane's bank. Zeros at first.
struct SessionMemory {
  WindowState windows[kMaxWindows];
  AccessProgress progress;
  uint8_t padding[48];
};
static_assert(sizeof(SessionMemory) % 64 == 0, "bump kSessionStateVersion");

// What WindowState::crc must be.
uint32_t WindowCrc(const WindowState& window);

// One bit per slot, as store::Message::bitmap has them.
using SlotBitmap = std::array<uint64_t, store::kSlotCount / 64>;

// The session slots that the state refers to; all others may be closed.
SlotBitmap ReferencedSlots(const SessionState& state, ConstWindowTable table);

// kDataLoss, with the reason, when the state is none that Decide() can have
// made: a version that we do not know, a slot out of range, one that serves two
// purposes, windows that overlap, wrap or do not have their checksum, a flag
// other than 0 or 1. Total: any bytes may be passed. Call it before a state is
// believed that another process wrote. `table` has kMaxWindows entries.
absl::Status CheckInvariants(const SessionState& state, ConstWindowTable table);

// Several lines for people, for the dump of an instance.
std::string Describe(const SessionState& state, ConstWindowTable table);

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_SESSION_STATE_H_
