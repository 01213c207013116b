#include "statestore/store/testing/slow_close_sys.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

namespace holdfast::store::testing {

SlowClose::SlowClose() {
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const name = reinterpret_cast<sockaddr*>(&address);
  UniqueFd near(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const linger slow = {1, 30000};  // Seconds, if nobody reads.
  if (bind(listener.get(), name, size) != 0 || listen(listener.get(), 1) != 0 ||
      getsockname(listener.get(), name, &size) != 0 ||
      connect(near.get(), name, size) != 0 ||
      setsockopt(near.get(), SOL_SOCKET, SO_LINGER, &slow, sizeof(slow)) != 0) {
    return;
  }
  far_.Reset(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  near_ = std::move(near);
  const std::vector<char> bytes(65536, 'x');
  for (;;) {
    const ssize_t n =
        send(near_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (n <= 0) return;
    sent_ += static_cast<size_t>(n);
  }
}

bool SlowClose::Allow() {
  std::vector<char> buffer(65536);
  size_t total = 0;
  for (;;) {
    const ssize_t n = read(far_.get(), buffer.data(), buffer.size());
    if (n == 0) return total == sent_ && total > 0;
    if (n < 0) return false;
    total += static_cast<size_t>(n);
  }
}

}  // namespace holdfast::store::testing
