#include "statestore/store/undertaker_sys.h"

#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "absl/types/span.h"
#include "base/errno_status.h"
#include "base/unix_socket_sys.h"

namespace holdfast::store {
namespace {

// What goes through the socket: the number of a descriptor. Not the descriptor
// itself, for then the sender's close() may be the last one.
using Word = Handle;

absl::Span<uint8_t> BytesOf(Word& word) {
  return {reinterpret_cast<uint8_t*>(&word), sizeof(word)};
}

// Fixed memory: what a thread gets by default is more than may be locked.
constexpr size_t kStackSize = size_t{64} << 10;
alignas(4096) char g_stack[kStackSize];

// Ends of the socket: ours and the thread's. Never closed, since a thread that
// ends makes system calls that the steady-state filter does not know.
int g_door = -1;
int g_grave = -1;

void* Dig(void* /*unused*/) {
  // Not in anybody's way, whatever the store itself has been raised to.
  const sched_param normal = {};
  sched_setscheduler(0, SCHED_OTHER, &normal);
  const BorrowedFd grave(g_grave);
  Word word = kNoHandle;
  SendFds(grave, BytesOf(word), {}, 0);  // "Here."
  for (;;) {
    const Received received = ReceiveFds(grave, BytesOf(word), {}, 0);
    if (received.size == sizeof(word)) close(word);
  }
}

absl::Status StartThread() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  int error = pthread_attr_setstack(&attributes, g_stack, sizeof(g_stack));
  pthread_t thread;
  if (error == 0) error = pthread_create(&thread, &attributes, &Dig, nullptr);
  pthread_attr_destroy(&attributes);
  errno = error;
  return error == 0 ? absl::OkStatus() : ErrnoStatus("pthread_create");
}

}  // namespace

absl::Status Undertaker::Start() {
  if (started_ || g_door >= 0) {
    started_ = true;
    return absl::OkStatus();
  }
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoStatus("socketpair");
  }
  g_door = ends[0];
  g_grave = ends[1];
  if (absl::Status status = StartThread(); !status.ok()) return status;
  Word word;
  if (ReceiveFds(BorrowedFd(g_door), BytesOf(word), {}, 0).size !=
      sizeof(word)) {
    return ErrnoStatus("waiting for the closing thread");
  }
  started_ = true;
  return absl::OkStatus();
}

bool Undertaker::Bury(Handle handle) {
  if (!started_) return false;
  return SendFds(BorrowedFd(g_door), BytesOf(handle), {}, MSG_DONTWAIT) > 0;
}

}  // namespace holdfast::store
