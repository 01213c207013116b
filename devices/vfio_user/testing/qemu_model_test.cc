// What QEMU makes of a server's mistakes, as measured on QEMU 11.1: the golden
// table says what the guest sees, and what becomes of the connection.
#include "devices/vfio_user/testing/qemu_model.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <deque>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "devices/vfio_user/message.h"
#include "devices/vfio_user/testing/message_builder.h"
#include "gtest/gtest.h"

namespace holdfast::vfio_user {
namespace {

constexpr uint32_t kAnswer = 0x11223344;

// A server that answers each access as it should, but for the first.
class Script final : public QemuWire {
 public:
  struct Arrival {
    Bytes bytes;
    size_t descriptors = 0;
    Came came = Came::kBytes;
  };
  using Fault = std::function<std::vector<Arrival>(const Bytes& request,
                                                   const Bytes& reply)>;

  explicit Script(Fault fault) : fault_(std::move(fault)) {}

  bool Send(const Bytes& message, Attached) override {
    if (closed_) return false;
    MessageHeader header;
    std::memcpy(&header, message.data(), sizeof(header));
    if ((header.flags & kFlagTypeMask) == kFlagReply) {
      refusals.push_back(header.error);
      return true;
    }
    if ((header.flags & kFlagNoReply) != 0) return true;
    Bytes payload(message.begin() + sizeof(header), message.end());
    payload.resize(16);
    const auto command = static_cast<Command>(header.command);
    if (command == Command::kRegionRead) {
      payload = Join(payload, Join(kAnswer));
    }
    const Bytes reply = ReplyMessage(command, payload, header.id);
    const Fault fault = std::exchange(fault_, nullptr);
    const std::vector<Arrival> all =
        fault ? fault(message, reply) : std::vector<Arrival>{{reply}};
    for (const Arrival& arrival : all) {
      closed_ = arrival.came == Came::kEnd;
      if (!closed_) arrivals_.push_back(arrival);
    }
    return true;
  }

  Came Receive(Bytes& bytes, size_t& descriptors) override {
    if (arrivals_.empty()) return closed_ ? Came::kEnd : Came::kNothing;
    const Arrival arrival = arrivals_.front();
    arrivals_.pop_front();
    bytes.insert(bytes.end(), arrival.bytes.begin(), arrival.bytes.end());
    descriptors += arrival.descriptors;
    return arrival.came;
  }

  std::vector<uint32_t> refusals;

 private:
  Fault fault_;
  std::deque<Arrival> arrivals_;
  bool closed_ = false;
};

Bytes WithHeader(const Bytes& message,
                 const std::function<void(MessageHeader&)>& change) {
  MessageHeader header;
  std::memcpy(&header, message.data(), sizeof(header));
  change(header);
  return Join(Join(header),
              Bytes(message.begin() + sizeof(header), message.end()));
}

// Its header alone, as of a whole message.
Bytes HeaderOf(const Bytes& message) {
  return RawMessage(
      {static_cast<uint16_t>(message[0] | message[1] << 8),
       static_cast<uint16_t>(message[2] | message[3] << 8), 0, kFlagReply, 0},
      {});
}

struct Row {
  const char* name;
  Script::Fault fault;
  bool write = false;  // Of configuration space; else a read.
};

using Arrivals = std::vector<Script::Arrival>;

// Right answers at the wrong time, or too often.
std::vector<Row> RowsOfTime() {
  constexpr auto kNothing = QemuWire::Came::kNothing;
  constexpr auto kEnd = QemuWire::Came::kEnd;
  return {
      {"answers", nullptr},
      {"answers in two parts",
       [](const Bytes&, const Bytes& reply) {
         return Arrivals{{Bytes(reply.begin(), reply.begin() + 24)},
                         {Bytes(reply.begin() + 24, reply.end())}};
       }},
      {"answers after the timeout",
       [](const Bytes&, const Bytes& reply) {
         return Arrivals{{{}, 0, kNothing}, {reply}};
       }},
      {"never answers",
       [](const Bytes&, const Bytes&) {
         return Arrivals{{{}, 0, kNothing}};
       }},
      {"answers twice",
       [](const Bytes&, const Bytes& reply) {
         return Arrivals{{Join(reply, reply)}};
       }},
      {"answers a write twice",
       [](const Bytes&, const Bytes& reply) {
         return Arrivals{{Join(HeaderOf(reply), HeaderOf(reply))}};
       },
       true},
      {"answers a write by a header",
       [](const Bytes&, const Bytes& reply) {
         return Arrivals{{HeaderOf(reply)}};
       },
       true},
      {"ends before it answers",
       [](const Bytes&, const Bytes&) {
         return Arrivals{{{}, 0, kEnd}};
       }},
      {"ends when it has answered",
       [](const Bytes&, const Bytes& reply) {
         return Arrivals{{reply}, {{}, 0, kEnd}};
       }},
  };
}

// Wrong answers.
std::vector<Row> RowsOfShape() {
  constexpr auto kEnd = QemuWire::Came::kEnd;
  return {
      {"answers another message",
       [](const Bytes&, const Bytes& reply) {
         return Arrivals{
             {WithHeader(reply, [](MessageHeader& h) { h.id += 9; })}};
       }},
      {"answers more than was asked for",
       [](const Bytes&, const Bytes& reply) {
         const Bytes longer = Join(reply, Bytes(4));
         return Arrivals{
             {WithHeader(longer, [](MessageHeader& h) { h.size += 4; })}};
       }},
      {"answers less than was asked for",
       [](const Bytes&, const Bytes& reply) {
         Bytes less = WithHeader(reply, [](MessageHeader& h) { h.size -= 2; });
         less.resize(less.size() - 2);
         less[sizeof(MessageHeader) + 12] = 2;
         return Arrivals{{less}};
       }},
      {"answers a read by a header",
       [](const Bytes&, const Bytes& reply) {
         return Arrivals{{HeaderOf(reply)}};
       }},
      {"answers an error",
       [](const Bytes&, const Bytes& reply) {
         return Arrivals{
             {ErrorMessage(Command::kRegionRead, EINVAL,
                           static_cast<uint16_t>(reply[0] | reply[1] << 8))}};
       }},
      {"answers with a descriptor",
       [](const Bytes&, const Bytes& reply) {
         return Arrivals{{reply, 1}};
       }},
      {"answers with a size below a header's",
       [](const Bytes&, const Bytes& reply) {
         return Arrivals{
             {WithHeader(reply, [](MessageHeader& h) { h.size = 8; })}};
       }},
      {"answers by a message of no type",
       [](const Bytes&, const Bytes& reply) {
         return Arrivals{
             {WithHeader(reply, [](MessageHeader& h) { h.flags = 5; })}};
       }},
      {"answers half a header, and ends",
       [](const Bytes&, const Bytes& reply) {
         return Arrivals{{Bytes(reply.begin(), reply.begin() + 8)},
                         {{}, 0, kEnd}};
       }},
      {"asks for what no client does",
       [](const Bytes&, const Bytes& reply) {
         return Arrivals{
             {Join(CommandMessage(Command::kDeviceGetInfo, Bytes(16)), reply)}};
       }},
  };
}

// What the guest sees of a fault, of the access after it and of the third.
std::string Reaction(const Row& row) {
  Script script(row.fault);
  QemuModel qemu(script);
  std::string guest;
  if (row.write) {
    qemu.Write(/*region=*/7, 0x40, 0x55, 2);
    guest = "-";
  } else {
    guest = absl::StrFormat("%08x", qemu.Read(0, 0x10, 4));
  }
  for (int i = 0; i < 2; ++i) {
    absl::StrAppend(&guest, " ",
                    absl::Hex(qemu.Read(0, 0x10, 4), absl::kZeroPad8));
  }
  return absl::StrCat(
      row.name, " | ", guest, " | ", qemu.timeouts(), " timeouts | ",
      qemu.dead() ? "dead" : "lives", " | ",
      qemu.said().empty() ? "nothing" : absl::StrJoin(qemu.said(), "; "), "\n");
}

TEST(QemuModel, ReactsAsTheTableSays) {
  std::string table =
      "server | guest reads | waits | connection | QEMU prints\n";
  for (const auto& rows : {RowsOfTime(), RowsOfShape()}) {
    for (const Row& row : rows) table += Reaction(row);
  }
  std::ifstream file("devices/vfio_user/golden/qemu_reactions.txt");
  std::stringstream golden;
  golden << file.rdbuf();
  EXPECT_EQ(table, golden.str()) << "the whole table now:\n" << table;
}

TEST(QemuModel, RefusesRequestsByNameAndGoesOn) {
  Script script([](const Bytes&, const Bytes& reply) {
    return Arrivals{{CommandMessage(Command::kDmaRead, Bytes(16))},
                    {CommandMessage(Command::kDeviceFeature, Bytes(8))},
                    {reply}};
  });
  QemuModel qemu(script);
  EXPECT_EQ(qemu.Read(0, 0, 4), kAnswer);
  EXPECT_EQ(script.refusals, (std::vector<uint32_t>{EINVAL, ENOSYS}));
}

TEST(QemuModel, DoesNotPlugInADeviceOfAnotherVersion) {
  Script script([](const Bytes&, const Bytes&) {
    return Arrivals{
        {WithHeader(VersionMessage(0, 1, "{}"), [](MessageHeader& h) {
          h.flags = kFlagReply;
          h.id = 0;
        })}};
  });
  QemuModel qemu(script);
  EXPECT_FALSE(qemu.Realize());
  EXPECT_EQ(qemu.sent().size(), 1u);
}

}  // namespace
}  // namespace holdfast::vfio_user
