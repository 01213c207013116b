// In a guest: talks to a port of the host, byte by byte, which sends each one
// back, and connects again when nothing comes back any more. Says VSOCK-UP,
// VSOCK-HEARD and VSOCK-OVER, each with the number of the connection.

#include <linux/vm_sockets.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "base/unique_fd.h"

namespace holdfast {
namespace {

constexpr int kPauseMs = 100;
// As a protocol above a socket has a limit of its own.
constexpr int kPatienceMs = 1000;

UniqueFd Connect(unsigned port) {
  UniqueFd socket(::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_vm host = {};
  host.svm_family = AF_VSOCK;
  host.svm_cid = VMADDR_CID_HOST;
  host.svm_port = port;
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&host),
              sizeof(host)) != 0) {
    socket.Reset();
  }
  return socket;
}

// Until it is over.
void Talk(BorrowedFd socket, int number) {
  for (bool heard = false; send(socket.get(), "x", 1, MSG_NOSIGNAL) == 1;
       heard = true) {
    pollfd answer = {socket.get(), POLLIN, 0};
    char byte = 0;
    if (poll(&answer, 1, kPatienceMs) <= 0 ||
        read(socket.get(), &byte, 1) != 1) {
      return;
    }
    if (!heard) std::printf("VSOCK-HEARD %d\n", number);
    usleep(kPauseMs * 1000);
  }
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  setvbuf(stdout, nullptr, _IOLBF, 0);
  const auto port = static_cast<unsigned>(std::atoi(argv[1]));
  for (int number = 1;; ++number) {
    holdfast::UniqueFd socket = holdfast::Connect(port);
    for (; !socket.valid(); socket = holdfast::Connect(port)) {
      usleep(holdfast::kPauseMs * 1000);
    }
    std::printf("VSOCK-UP %d\n", number);
    holdfast::Talk(socket, number);
    std::printf("VSOCK-OVER %d\n", number);
  }
}
