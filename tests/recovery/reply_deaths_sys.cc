// Makes a vfio-user device die where it is hardest for its successor: when the
// answer to a read of BAR 0 is about to be sent, or has just been sent. Stands
// in front of sendmmsg(), which the linker renames (--wrap), so the lane itself
// is the one that is shipped. What the successor reads in the journal depends
// on how this is compiled:
//   without a macro   what the kernel has written
//   ALWAYS_RESENDS    that nothing was sent, when all was: a server that sends
//                     again whatever it had not finished
//   NEVER_RESENDS     that all was sent, when nothing was: a server that notes
//                     an answer as given and gives it then
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "devices/vfio_user/message.h"
#include "statestore/lane_format.h"

extern "C" {
int __real_sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags);
int __wrap_sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags);
}

namespace {

using ::holdfast::vfio_user::Command;
using ::holdfast::vfio_user::MessageHeader;
using ::holdfast::vfio_user::RegionAccess;

constexpr int kAnswersOfALife = 400;

// Whether it is the whole answer to a read of BAR 0; if so, its number.
bool IsRegisterAnswer(const msghdr& message, uint16_t* id) {
  if (message.msg_iovlen != 1) return false;
  const iovec& bytes = message.msg_iov[0];
  struct {
    MessageHeader header;
    RegionAccess access;
  } answer;
  if (bytes.iov_len < sizeof(answer)) return false;
  std::memcpy(&answer, bytes.iov_base, sizeof(answer));
  *id = answer.header.id;
  return answer.header.size == bytes.iov_len &&
         answer.header.command == static_cast<uint16_t>(Command::kRegionRead) &&
         (answer.header.flags & holdfast::vfio_user::kFlagTypeMask) ==
             holdfast::vfio_user::kFlagReply &&
         answer.access.region == 0;
}

}  // namespace

int __wrap_sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  static int answers = 0;
  uint16_t id = 0;
  if (count != 1 || !IsRegisterAnswer(messages->msg_hdr, &id) ||
      ++answers < kAnswersOfALife) {
    return __real_sendmmsg(fd, messages, count, flags);
  }
#if defined(ALWAYS_RESENDS)
  const bool send = true;
#elif defined(NEVER_RESENDS)
  const bool send = false;
#else
  const bool send = id % 2 == 0;
#endif
  const auto size = static_cast<uint32_t>(messages->msg_hdr.msg_iov->iov_len);
  if (send && (__real_sendmmsg(fd, messages, count, flags) != 1 ||
               messages->msg_len != size)) {
    return -1;  // The peer does not read: not what this is about.
  }
#if defined(ALWAYS_RESENDS)
  messages->msg_len = holdfast::kLaneArmed;
#elif defined(NEVER_RESENDS)
  messages->msg_len = size;
#endif
  // Nothing that is stored above may be moved behind the end.
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  _exit(1);
}
