#ifndef HOLDFAST_DEVICES_VFIO_USER_TESTING_CLIENT_WIRE_H_
#define HOLDFAST_DEVICES_VFIO_USER_TESTING_CLIENT_WIRE_H_

#include <cstddef>

#include "devices/vfio_user/testing/message_builder.h"

namespace holdfast::vfio_user {

// How a model of a client reaches a server: a socket, or a script of a bad one.
class ClientWire {
 public:
  virtual ~ClientWire() = default;

  // What goes with a message, each `count` times: the file of the guest's
  // memory, or an eventfd.
  enum class Attached { kNothing, kMemory, kEvent };
  // False: the server has closed its end.
  virtual bool Send(const Bytes& message, Attached attached, size_t count) = 0;

  // Waits for bytes, which it appends, and counts descriptors that came with
  // them. kNothing: none came for as long as anybody waits.
  enum class Came { kBytes, kNothing, kEnd };
  virtual Came Receive(Bytes& bytes, size_t& descriptors) = 0;
};

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_TESTING_CLIENT_WIRE_H_
