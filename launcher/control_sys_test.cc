#include "launcher/control_sys.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <vector>

#include "base/testing/matchers.h"
#include "base/testing/temp_dir.h"
#include "base/unix_socket_sys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::holdfast::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class Control : public ::testing::Test {
 protected:
  void SetUp() override {
    auto server = ControlServer::Create(Path(), {getuid()});
    ASSERT_OK(server);
    server_.emplace(*std::move(server));
  }
  std::string Path() const { return dir_.File("core.sock"); }
  UniqueFd Connect() {
    auto fd = ConnectSeqpacket(Path());
    EXPECT_OK(fd);
    server_->Accept();
    return fd.ok() ? *std::move(fd) : UniqueFd();
  }

  testing::TempDir dir_;
  std::optional<ControlServer> server_;
};

TEST_F(Control, SocketIsForItsOwnerAlone) {
  struct stat file = {};
  ASSERT_EQ(stat(Path().c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0077, 0u);
}

TEST_F(Control, RequestArrivesAndAnswerReturns) {
  const UniqueFd client = Connect();
  Request request;
  request.op = Op::kList;
  request.tag = 9;
  ASSERT_OK(SendWithFds(client, EncodeRequest(request), {}));
  ASSERT_THAT(server_->clients(), SizeIs(1));
  const auto id = server_->clients()[0].first;
  const auto read = server_->Read(id);
  ASSERT_OK(read);
  Answer answer;
  answer.tag = read->tag;
  server_->Send(id, answer);
  std::vector<uint8_t> buffer(kMaxCorePacket);
  ReceivedFds fds;
  const auto got = ReceiveWithFds(client, absl::MakeSpan(buffer), fds);
  ASSERT_OK(got);
  EXPECT_EQ(DecodeAnswer(absl::MakeConstSpan(buffer.data(), got->size))->tag,
            9u);
}

TEST_F(Control, GarbageIsAnsweredAndTheClientClosed) {
  const UniqueFd client = Connect();
  const uint8_t garbage[] = {1, 2, 3};
  ASSERT_OK(SendWithFds(client, garbage, {}));
  EXPECT_THAT(server_->Read(server_->clients()[0].first),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("")));
  EXPECT_THAT(server_->clients(), IsEmpty());
  std::vector<uint8_t> buffer(kMaxCorePacket);
  ReceivedFds fds;
  const auto got = ReceiveWithFds(client, absl::MakeSpan(buffer), fds);
  ASSERT_OK(got);
  EXPECT_GT(got->size, 0u);
}

TEST_F(Control, ClientThatLeavesIsForgotten) {
  UniqueFd client = Connect();
  client.Reset();
  EXPECT_FALSE(server_->Read(server_->clients()[0].first).ok());
  EXPECT_THAT(server_->clients(), IsEmpty());
}

// The core never waits for a client that asks and does not read.
TEST_F(Control, ClientThatReadsNothingIsClosed) {
  const UniqueFd client = Connect();
  const auto id = server_->clients()[0].first;
  Answer answer;
  answer.status = absl::InternalError(std::string(2000, 'x'));
  for (int i = 0; i < 10000 && !server_->clients().empty(); ++i) {
    server_->Send(id, answer);
  }
  EXPECT_THAT(server_->clients(), IsEmpty());
}

TEST_F(Control, ClientsBeyondTheLimitAreClosed) {
  std::vector<UniqueFd> clients;
  for (size_t i = 0; i < ControlServer::kMaxClients + 3; ++i) {
    clients.push_back(Connect());
  }
  EXPECT_THAT(server_->clients(), SizeIs(ControlServer::kMaxClients));
}

TEST_F(Control, SecondServerIsRefusedAndAStaleSocketReplaced) {
  EXPECT_THAT(ControlServer::Create(Path(), {}),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       HasSubstr("another process listens")));
  server_.reset();
  EXPECT_OK(ControlServer::Create(Path(), {}));
}

TEST_F(Control, FileInThePlaceOfTheSocketIsLeftAlone) {
  std::ofstream(dir_.File("file")) << "precious";
  EXPECT_THAT(
      ControlServer::Create(dir_.File("file"), {}),
      StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("is not a socket")));
}

// Who waits for the core would wake it for ever otherwise.
TEST(ControlServer, WithoutADescriptorLeftAClientIsTurnedAway) {
  testing::TempDir dir;
  auto server = ControlServer::Create(dir.File("core.sock"), {});
  ASSERT_OK(server);
  const auto client = ConnectSeqpacket(dir.File("core.sock"));
  ASSERT_OK(client);
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = dup(client->get());
  close(next);
  const rlimit none = {static_cast<rlim_t>(next), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  server->Accept();
  setrlimit(RLIMIT_NOFILE, &before);
  char byte;
  EXPECT_EQ(recv(client->get(), &byte, 1, MSG_DONTWAIT), 0);
  EXPECT_TRUE(server->clients().empty());
  // The next one finds room again.
  const auto second = ConnectSeqpacket(dir.File("core.sock"));
  ASSERT_OK(second);
  server->Accept();
  EXPECT_EQ(server->clients().size(), 1u);
}

}  // namespace
}  // namespace holdfast::launcher
