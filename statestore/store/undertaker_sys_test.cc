#include "statestore/store/undertaker_sys.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "base/testing/matchers.h"
#include "base/unique_fd.h"
#include "gtest/gtest.h"

namespace holdfast::store {
namespace {

// One thread a process: so is this.
Undertaker& Started() {
  static Undertaker* const undertaker = [] {
    auto* started = new Undertaker;
    EXPECT_OK(started->Start());
    return started;
  }();
  return *undertaker;
}

// A connected pair over loopback: a TCP socket's close() can be made to wait.
struct Connection {
  UniqueFd near;
  UniqueFd far;
};

Connection Connect() {
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const name = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(bind(listener.get(), name, size), 0);
  EXPECT_EQ(listen(listener.get(), 1), 0);
  EXPECT_EQ(getsockname(listener.get(), name, &size), 0);
  Connection connection;
  connection.near.Reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(connect(connection.near.get(), name, size), 0);
  connection.far.Reset(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_TRUE(connection.far.valid());
  return connection;
}

// Bytes until the end of the stream.
size_t ReadAll(BorrowedFd fd) {
  std::vector<char> buffer(65536);
  size_t total = 0;
  for (;;) {
    const ssize_t n = read(fd.get(), buffer.data(), buffer.size());
    if (n <= 0) return total;
    total += static_cast<size_t>(n);
  }
}

TEST(Undertaker, ClosesWhatItIsGiven) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  ASSERT_TRUE(Started().Bury(ends[1]));
  char byte;
  EXPECT_EQ(read(reader.get(), &byte, 1), 0) << "the end of the stream";
}

// Closed by the caller, the socket would hold it for the whole linger time: its
// peer reads only after Bury() has returned.
TEST(Undertaker, DoesNotWaitForASlowClose) {
  Connection connection = Connect();
  const linger slow = {1, 30000};  // Seconds, if nobody reads.
  ASSERT_EQ(setsockopt(connection.near.get(), SOL_SOCKET, SO_LINGER, &slow,
                       sizeof(slow)),
            0);
  const std::vector<char> bytes(65536, 'x');
  size_t sent = 0;
  for (;;) {
    const ssize_t n =
        send(connection.near.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (n <= 0) break;
    sent += static_cast<size_t>(n);
  }
  ASSERT_TRUE(Started().Bury(connection.near.Release()));
  EXPECT_EQ(ReadAll(connection.far), sent);
}

TEST(Undertaker, RefusesWhatFindsNoPlaceAndLeavesItOpen) {
  // Whom a slow one keeps.
  Connection connection = Connect();
  const linger slow = {1, 30000};
  setsockopt(connection.near.get(), SOL_SOCKET, SO_LINGER, &slow, sizeof(slow));
  const std::vector<char> bytes(65536, 'x');
  while (send(connection.near.get(), bytes.data(), bytes.size(), MSG_DONTWAIT) >
         0) {
  }
  ASSERT_TRUE(Started().Bury(connection.near.Release()));
  constexpr int kMany = 5000;
  int taken = 0;
  int refused = -1;
  while (taken < kMany && refused < 0) {
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    if (Started().Bury(fd)) {
      ++taken;
    } else {
      refused = fd;
    }
  }
  EXPECT_GE(taken, 160) << "all slots of a session";
  ASSERT_GE(refused, 0);
  EXPECT_NE(fcntl(refused, F_GETFD), -1);
  close(refused);
  ReadAll(connection.far);
}

TEST(Undertaker, TakesNothingBeforeItsStart) {
  Undertaker idle;
  const UniqueFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(idle.Bury(fd.get()));
  EXPECT_NE(fcntl(fd.get(), F_GETFD), -1);
}

}  // namespace
}  // namespace holdfast::store
