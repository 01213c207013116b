#ifndef HOLDFAST_DEVICES_VFIO_USER_TESTING_SERVER_FAULTS_H_
#define HOLDFAST_DEVICES_VFIO_USER_TESTING_SERVER_FAULTS_H_

// What a server may do wrong, for tables of what models of clients make of it.

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "devices/vfio_user/message.h"
#include "devices/vfio_user/testing/client_wire.h"
#include "devices/vfio_user/testing/message_builder.h"

namespace holdfast::vfio_user {

inline constexpr uint32_t kAnswer = 0x11223344;

// A server that answers each access as it should, but for the first.
class ScriptedServer final : public ClientWire {
 public:
  struct Arrival {
    Bytes bytes;
    size_t descriptors = 0;
    Came came = Came::kBytes;
  };
  using Fault = std::function<std::vector<Arrival>(const Bytes& request,
                                                   const Bytes& reply)>;

  explicit ScriptedServer(Fault fault) : fault_(std::move(fault)) {}

  bool Send(const Bytes& message, Attached, size_t) override {
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

inline Bytes WithHeader(const Bytes& message,
                        const std::function<void(MessageHeader&)>& change) {
  MessageHeader header;
  std::memcpy(&header, message.data(), sizeof(header));
  change(header);
  return Join(Join(header),
              Bytes(message.begin() + sizeof(header), message.end()));
}

// Its header alone, as of a whole message.
inline Bytes HeaderOf(const Bytes& message) {
  return RawMessage(
      {static_cast<uint16_t>(message[0] | message[1] << 8),
       static_cast<uint16_t>(message[2] | message[3] << 8), 0, kFlagReply, 0},
      {});
}

struct FaultRow {
  const char* name;
  ScriptedServer::Fault fault;
  bool write = false;  // Of configuration space; else a read.
};

using Arrivals = std::vector<ScriptedServer::Arrival>;

// Right answers at the wrong time, or too often.
inline std::vector<FaultRow> RowsOfTime() {
  constexpr auto kNothing = ClientWire::Came::kNothing;
  constexpr auto kEnd = ClientWire::Came::kEnd;
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
inline std::vector<FaultRow> RowsOfShape() {
  constexpr auto kEnd = ClientWire::Came::kEnd;
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

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_TESTING_SERVER_FAULTS_H_
