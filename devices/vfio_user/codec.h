#ifndef HOLDFAST_DEVICES_VFIO_USER_CODEC_H_
#define HOLDFAST_DEVICES_VFIO_USER_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "devices/vfio_user/message.h"
#include "devices/vfio_user/migration_message.h"

namespace holdfast::vfio_user {

// Bytes <-> types. Pure; every function is thread-safe and trusts no byte.

// Data in one message, either way. What the specification takes for granted.
inline constexpr uint32_t kMaxTransfer = kDefaultMaxTransfer;
// No message is larger: a write, or the reply to a read, of kMaxTransfer.
inline constexpr size_t kMaxMessageSize =
    sizeof(MessageHeader) + sizeof(RegionAccess) + kMaxTransfer;
// Descriptors with one message: what clients send at most (Cloud Hypervisor 16
// with SET_IRQS, whatever it is told).
inline constexpr size_t kMaxMessageFds = 16;
// In one REGION_WRITE_MULTI; QEMU sends 200 at most.
inline constexpr uint64_t kMaxSmallWrites = 1024;
// In one DMA_LOGGING_START.
inline constexpr uint32_t kMaxLoggingRanges = 64;

// One message of the client. Which member is meaningful follows from `command`;
// the others are zero. What the numbers mean (region exists, window is free) is
// session.h's business.
struct Request {
  uint16_t id = 0;
  Command command{};
  bool no_reply = false;
  // It answers a request of ours; `error` is its errno (EIO where it gives
  // none), 0: no error.
  bool is_reply = false;
  uint32_t error = 0;
  // Not OK: refuse it with ErrorNumber(malformed). All below is zero then.
  absl::Status malformed;
  // Its size is impossible, so nobody knows where the next message begins: the
  // connection is to be given up after the refusal.
  bool boundary_lost = false;

  Version version{};
  bool has_json = false;
  absl::string_view json;  // Version data without its NUL.
  DmaMap dma_map{};
  DmaUnmap dma_unmap{};
  DeviceInfo device_info{};
  RegionInfo region_info{};
  RegionIoFds region_io_fds{};
  IrqInfo irq_info{};
  IrqSet irq_set{};
  RegionAccess region{};      // REGION_READ and _WRITE.
  uint32_t small_writes = 0;  // REGION_WRITE_MULTI: SmallWriteAt().
  DeviceFeature feature{};    // `data` has all that follows.
  MigrationData migration{};  // MIG_DATA_READ and _WRITE.
  DmaAccess dma{};            // A reply to DMA_READ or _WRITE.
  size_t fd_count = 0;
  // What follows the structure: of a write, of SET_IRQS with booleans, of a
  // feature, of a reply to DMA_READ. Points into the message.
  absl::Span<const uint8_t> data;
};

// "DMA_MAP", or "command 99" for a number without a name.
std::string CommandName(Command command);

// The errno that tells a peer about `status`, which is not OK; 0 if it is:
//   kInvalidArgument, kOutOfRange, kFailedPrecondition  EINVAL
//   kAlreadyExists EEXIST   kNotFound ENOENT   kResourceExhausted ENOSPC
//   kUnimplemented ENOTSUP  kPermissionDenied EACCES  kUnavailable EBUSY
//   all others EIO
uint32_t ErrorNumber(const absl::Status& status);

// How many bytes to take from the stream for the message that begins with these
// bytes, at least a header's worth of them. kInvalidArgument: fewer bytes. A
// header whose size is impossible counts as a message by itself, so that
// Parse() can have it refused.
absl::StatusOr<size_t> MessageSize(absl::Span<const uint8_t> header);

// Reads one whole message, exactly MessageSize() bytes, that came with
// `fd_count` descriptors. Total: for whatever bytes it says whom to answer, and
// in `malformed` why not to do it:
//   kInvalidArgument  A size that is not what the command says (structures that
//                     begin with argsz may be longer), an argsz too small for
//                     the reply, more than kMaxTransfer bytes, descriptors
//                     where none belong or too many, a command that nobody
//                     knows or that only a server sends, a final NUL missing.
//                     libvfio-user answers all of these with EINVAL as well.
//   kUnimplemented    USER_DIRTY_PAGES, which was withdrawn.
// `message` must outlive the result.
Request Parse(absl::Span<const uint8_t> message, size_t fd_count);

// The i-th write of a REGION_WRITE_MULTI, i < request.small_writes. Its count
// is at most 8.
SmallWrite SmallWriteAt(const Request& request, size_t i);

// Writes one message into a buffer that it does not own, piece by piece.
class MessageWriter {
 public:
  explicit MessageWriter(absl::Span<uint8_t> out);

  // Appends the bytes of `value`.
  template <typename T>
  void Append(const T& value) {
    static_assert(std::has_unique_object_representations_v<T>);
    AppendBytes({reinterpret_cast<const uint8_t*>(&value), sizeof(value)});
  }
  void AppendBytes(absl::Span<const uint8_t> bytes);
  // Appends `size` bytes as they are, to be filled by the caller. Empty: there
  // is no room for them.
  absl::Span<uint8_t> AppendSpace(size_t size);
  // Drops the last `size` bytes, which AppendSpace() gave.
  void TakeBack(size_t size) { size_ -= size; }

  // Writes the header and returns the size of the whole. kResourceExhausted: it
  // did not fit.
  absl::StatusOr<size_t> FinishReply(const Request& request);
  absl::StatusOr<size_t> FinishCommand(uint16_t id, Command command);

 private:
  absl::StatusOr<size_t> Finish(MessageHeader header);

  absl::Span<uint8_t> out_;
  size_t size_ = sizeof(MessageHeader);
  bool overflow_;
};

// A reply that is a header alone, with an errno unless `error` is 0.
absl::StatusOr<size_t> EncodeError(const Request& request, uint32_t error,
                                   absl::Span<uint8_t> out);

// Requests of the server.
absl::StatusOr<size_t> EncodeDmaRead(uint16_t id, const DmaAccess& access,
                                     absl::Span<uint8_t> out);
absl::StatusOr<size_t> EncodeDmaWrite(uint16_t id, uint64_t address,
                                      absl::Span<const uint8_t> data,
                                      absl::Span<uint8_t> out);

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_CODEC_H_
