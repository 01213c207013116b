#include "statestore/store/undertaker_sys.h"

#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "absl/types/span.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
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
#if defined(__SANITIZE_THREAD__)
// TSan has its thread's own memory there.
constexpr size_t kStackSize = size_t{2} << 20;
#else
constexpr size_t kStackSize = size_t{64} << 10;
#endif
alignas(4096) char g_stacks[2][kStackSize];

struct Digger {
  char* stack;
  // Ends of a socket: ours and the thread's. Never closed, since a thread that
  // ends makes system calls that the steady-state filter does not know.
  int door;
  int grave;
};
Digger g_slow = {g_stacks[0], -1, -1};
Digger g_prompt = {g_stacks[1], -1, -1};

void* Dig(void* digger) {
  // Not in anybody's way, whatever the store itself has been raised to.
  const sched_param normal = {};
  sched_setscheduler(0, SCHED_OTHER, &normal);
  const BorrowedFd grave(static_cast<Digger*>(digger)->grave);
  Word word = kNoHandle;
  SendFds(grave, BytesOf(word), {}, 0);  // "Here."
  for (;;) {
    const Received received = ReceiveFds(grave, BytesOf(word), {}, 0);
    if (received.size == sizeof(word)) close(word);
  }
}

absl::Status StartThread(Digger& digger) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  int error = pthread_attr_setstack(&attributes, digger.stack, kStackSize);
  pthread_t thread;
  if (error == 0) error = pthread_create(&thread, &attributes, &Dig, &digger);
  pthread_attr_destroy(&attributes);
  errno = error;
  return error == 0 ? absl::OkStatus() : ErrnoStatus("pthread_create");
}

absl::Status StartDigger(Digger& digger) {
  if (digger.door >= 0) return absl::OkStatus();
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoStatus("socketpair");
  }
  digger.door = ends[0];
  digger.grave = ends[1];
  RETURN_IF_ERROR(StartThread(digger));
  Word word;
  if (ReceiveFds(BorrowedFd(digger.door), BytesOf(word), {}, 0).size !=
      sizeof(word)) {
    return ErrnoStatus("waiting for a closing thread");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Undertaker::Start() {
  RETURN_IF_ERROR(StartDigger(g_slow));
  RETURN_IF_ERROR(StartDigger(g_prompt));
  started_ = true;
  return absl::OkStatus();
}

bool Undertaker::Bury(Handle handle, Closer closer) {
  if (!started_ || closer == Closer::kHere) return false;
  const Digger& digger = closer == Closer::kPromptly ? g_prompt : g_slow;
  return SendFds(BorrowedFd(digger.door), BytesOf(handle), {}, MSG_DONTWAIT) >
         0;
}

}  // namespace holdfast::store
